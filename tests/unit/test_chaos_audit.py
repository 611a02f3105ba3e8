"""The audit of a chaos run sees each thing that must not happen; its schedule is drawn from the seed alone."""

import pytest
from tests.integration.chaos_audit import SETTLE, Audit
from tests.integration.chaos_schedule import CALM, HEALS, LEAST, SLOTS, STORM, schedule
from tests.integration.journal import Journal, Line


def journal(*facts):
    """Return lines, a second apart, of `who what offset [key]`."""
    lines = []
    for second, fact in enumerate(facts):
        who, what, *about = fact.split()
        place = ("topic", 0, int(about[0])) if about else None
        lines.append(Line(float(second), who, what, place, about[1] if len(about) > 1 else "k" if about else ""))
    return Audit(lines)


def of(pairs):
    return [(a.who, a.place[2], b.who, b.place[2]) for a, b in pairs]


def test_lines_of_many_writers_are_in_the_order_of_their_writes(tmp_path):
    one, two = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    for n in range(10):
        (two if n % 2 else one).note(f"m{n}", "began", ("topic", 0, n), "k")
    assert [line.place for line in one.lines()] == [("topic", 0, n) for n in range(10)]


def test_an_event_that_was_begun_and_failed_but_never_ended_is_lost():
    audit = journal("a began 0", "a ended 0", "a began 1", "a failed 1", "a began 2", "a dies", "a gone")
    assert audit.lost([("topic", 0, n) for n in range(4)]) == [("topic", 0, n) for n in (1, 2, 3)]


def test_order_is_that_of_first_ends_per_key():
    fine = journal("a began 0", "a ended 0", "a began 1", "a ended 1", "b began 0", "b ended 0")
    assert of(fine.disordered()) == []
    wrong = journal("a began 1", "a ended 1", "b began 0", "b ended 0", "b began 2 other", "b ended 2 other")
    assert of(wrong.disordered()) == [("a", 1, "b", 0)]


def test_handlings_of_one_key_overlap_but_those_of_two_keys_do_not():
    assert of(journal("a began 0", "a began 1", "a ended 0", "a ended 1").overlapping()) == [("a", 0, "a", 1)]
    assert of(journal("a began 0", "a began 1 other", "a ended 0", "a ended 1 other").overlapping()) == []


def test_a_handling_ends_with_its_process():
    assert of(journal("a began 0", "a dies", "a gone", "b began 0", "b ended 0").overlapping()) == []


def test_an_attempt_after_a_failure_repeats_nothing_and_one_after_an_end_does():
    assert of(journal("a began 0", "a failed 0", "a began 0", "a ended 0").repeated()) == []
    assert of(journal("a began 0", "a ended 0", "b began 0", "b ended 0").repeated()) == [("a", 0, "b", 0)]


@pytest.mark.parametrize(
    "facts",
    [
        ("a began 0", "a dies", "a gone", "b began 0", "b ended 0"),
        ("a began 0", "a freezes", "b began 0", "b ended 0", "a thawed", "a ended 0"),
        ("a freezes", "b began 0", "b ended 0", "a thawed", "a began 0", "a ended 0"),
        ("a began 0", "a ended 0", "broker stops", "broker up", "a began 0", "a ended 0"),
    ],
    ids=["killed", "new owner after zombie", "zombie after new owner", "no broker to commit to"],
)
def test_a_fault_explains_a_repetition(facts):
    audit = journal(*facts)
    (pair,) = audit.repeated()
    assert audit.reason(pair) == audit.faults[0]


@pytest.mark.parametrize(
    "facts",
    [
        ("a began 0", "a ended 0", "b began 0", "b ended 0", "a dies"),
        ("c dies", "a began 0", "a ended 0", "b began 0", "b ended 0"),
        ("a cut", "a healed", *["x waits"] * int(SETTLE + 1), "a began 0", "a ended 0", "b began 0", "b ended 0"),
    ],
    ids=["too late", "another's", "long healed"],
)
def test_a_fault_of_another_time_or_member_explains_nothing(facts):
    audit = journal(*facts)
    (pair,) = audit.repeated()
    assert audit.reason(pair) is None


def test_what_was_finished_ahead_is_what_an_earlier_event_came_after():
    audit = journal("a began 1 x", "a ended 1 x", "b began 0", "b ended 0", "b began 1 x", "b ended 1 x")
    assert [audit.ahead(pair) for pair in audit.repeated()] == [True]
    audit = journal("a began 0", "a ended 0", "a began 1 x", "a ended 1 x", "b began 1 x", "b ended 1 x")
    assert [audit.ahead(pair) for pair in audit.repeated()] == [False]


@pytest.mark.parametrize("weights", [CALM, STORM], ids=["calm", "storm"])
@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_is_that_of_its_seed_and_leaves_enough_members(seed, weights):
    steps = schedule(seed, 120, weights)
    assert steps == schedule(seed, 120, weights)
    state = {}
    for step in steps:
        if step.slot is not None:
            state[step.slot] = {"join": "up", **dict.fromkeys(HEALS.values(), "up")}.get(step.what, step.what)
        healthy = sum(what == "up" for what in state.values())
        assert (LEAST if step.at else 0) <= healthy <= SLOTS
    assert {"freeze", "cut", "stall"}.isdisjoint(state.values()), "everything is healed at the end"
    assert {step.what for step in steps} - set(HEALS.values()) <= set(weights)
