"""The filter of dead letters: validated, ANDed, the same for command and resource."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eventing.errors import Misconfigured
from eventing.letter import DeadLetter
from eventing.letter_filter import Filter

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def letter(*, key=b"k", partition=0, offset=7, value=b"{}", timestamp=0, **known):
    named = {
        "x-dlq-id": "abc",
        "x-disposition": "exhausted",
        "x-error-type": "TimeoutError",
        "ce_type": "user.v1",
        "x-last-failed-at": NOON.isoformat(),
        "x-origin-topic": "users",
        "x-origin-partition": "3",
        "x-origin-offset": "150",
        "x-group": "mailer",
    } | {name.replace("__", "-"): text for name, text in known.items()}
    pairs = [(name, text.encode()) for name, text in named.items() if text is not None]
    return DeadLetter.read(
        SimpleNamespace(key=key, partition=partition, offset=offset, value=value, timestamp=timestamp, headers=pairs)
    )


MATCHING = [
    {"ids": ["abc", "other"]},
    {"keys": ["k"]},
    {"reasons": ["exhausted"]},
    {"errors": ["TimeoutError"]},
    {"types": ["user.v1"]},
    {"headers": {"x-group": "mailer", "ce_type": "user.v1"}},
    {"since": "2026-11-24T12:00:00Z"},
    {"until": "2026-11-24T13:00:00.5+00:59"},
    {"partitions": [0, 1]},
    {"offsets": "1-3,7"},
    {"originTopics": ["users"]},
    {"originPartitions": [3]},
    {"originOffsets": "100-200"},
]
DIFFERENT = [
    {"ids": ["other"]},
    {"keys": ["K"]},
    {"reasons": ["permanent", "pointer-only"]},
    {"errors": ["Timeout"]},
    {"types": ["user"]},
    {"headers": {"x-group": "mailer", "ce_type": "user.v2"}},
    {"since": "2026-11-24T12:00:00.000001Z"},
    {"until": "2026-11-24T12:00:00Z"},
    {"partitions": [1]},
    {"offsets": "8-9"},
    {"originTopics": ["user-events"]},
    {"originPartitions": [0]},
    {"originOffsets": "151-200"},
]


@pytest.mark.parametrize("given", MATCHING, ids=lambda given: next(iter(given)))
def test_a_criterion_matches_what_it_names(given):
    assert Filter.parse(given).matches(letter())


@pytest.mark.parametrize("given", DIFFERENT, ids=lambda given: next(iter(given)))
def test_a_criterion_leaves_out_everything_else(given):
    assert not Filter.parse(given).matches(letter())


def test_every_field_has_a_case_here():
    fields = {field.alias for field in Filter.model_fields.values()}
    assert {key for given in MATCHING for key in given} == {key for given in DIFFERENT for key in given} == fields


@given(st.sets(st.sampled_from(range(len(MATCHING)))), st.sets(st.sampled_from(range(len(DIFFERENT)))))
def test_all_criteria_must_hold(good, bad):
    chosen = {key: value for n in good for key, value in MATCHING[n].items()}
    chosen |= {key: value for n in bad for key, value in DIFFERENT[n].items()}
    assume(not ({"until": chosen.get("until")} in DIFFERENT and "since" in chosen))  # else no time is between the two
    assert Filter.parse(chosen).matches(letter()) is not bool(bad)


def test_an_empty_filter_means_everything_even_what_is_no_letter_of_ours():
    stranger = DeadLetter.read(SimpleNamespace(key=None, partition=1, offset=2, value=None, timestamp=0, headers=[]))
    assert Filter().matches(stranger)
    assert stranger.id == "1-2"
    assert not Filter(origin_partitions=(0,)).matches(stranger)
    assert not Filter(keys=("",)).matches(stranger)
    assert Filter(reasons=("unknown",)).matches(stranger)


def test_a_pointer_is_found_by_its_reason_and_as_a_pointer():
    pointer = letter(**{"x-disposition": "undecodable,pointer-only"})
    assert Filter(reasons=("undecodable",)).matches(pointer)
    assert Filter(reasons=("pointer-only",)).matches(pointer)
    assert not Filter(reasons=("pointer-only",)).matches(letter())


def test_a_letter_that_does_not_say_when_it_failed_counts_by_when_it_was_written():
    silent = letter(timestamp=int(NOON.timestamp() * 1000), **{"x-last-failed-at": "yesterday"})
    assert Filter(since=NOON, until=NOON + timedelta(seconds=1)).matches(silent)


def test_a_key_that_is_no_text_is_named_as_it_is_shown():
    assert Filter(keys=(r"\xff",)).matches(letter(key=b"\xff"))


def test_it_is_the_same_after_a_round_through_json():
    everything = Filter.parse({key: value for given in MATCHING for key, value in given.items()})
    assert Filter.parse(everything.model_dump_json(by_alias=True, exclude_unset=True)) == everything


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"resaons": ["exhausted"]}, r"unknown key 'resaons'; known are ids, keys, reasons, .*originOffsets"),
        ({"origin_topics": ["users"]}, "unknown key 'origin_topics'"),
        ({"partitions": [-1]}, r"partitions.0: .*greater than or equal to 0"),
        ({"partitions": ["x"], "offsets": "9-1"}, r"partitions.0: .*integer.*; filter: offsets: range 9-1 ends before"),
        ({"since": "yesterday"}, "since: needs date, time and zone"),
        ({"since": "2026-11-24T12:00:00"}, "since: needs date, time and zone"),
        ({"since": 1700000000}, "since: needs a text"),
        ({"since": "2026-13-24T12:00:00Z"}, "since: .*month"),
        ({"since": "2026-11-24T12:00:00Z", "until": "2026-11-24T12:00:00Z"}, "is not before until"),
        ({"ids": ["x"] * 257}, "ids: .*at most 256"),
        ({"headers": {"a": 1}}, "headers.a: .*string"),
        ("{", "not JSON"),
        ("[]", "valid dictionary"),
    ],
)
def test_a_wrong_filter_is_refused_by_name(given, said):
    with pytest.raises(Misconfigured, match=said):
        Filter.parse(given)


def test_it_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Filter().ids = ("x",)


def test_its_schema_is_complete_and_bounded_for_a_resource_to_mirror():
    schema = Filter.model_json_schema(by_alias=True)
    assert schema["additionalProperties"] is False
    for name, field in schema["properties"].items():
        assert field["description"], name
        bounded = field.get("maxItems") or field.get("maxProperties") or "anyOf" in field
        assert bounded, name
    json.dumps(schema)
