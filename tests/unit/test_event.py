"""The envelope: ours, foreign ones, and broken ones."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from contracts.users import UserRegistered
from eventing.errors import BadRecord
from eventing.event import Event

CE = {
    "ce_specversion": b"1.0",
    "ce_id": b"0199c0de-0000-7000-8000-000000000001",
    "ce_source": b"/accounts",
    "ce_type": b"com.evenkeel.user.registered.v1",
    "ce_time": b"2026-11-24T03:00:00+00:00",
    "ce_partitionkey": b"u1",
    "ce_aggregateversion": b"3",
}


@dataclass
class R:
    value: bytes | None = b'{"userId": 123, "action": "registered"}'
    headers: tuple = ()
    key: bytes | None = None
    topic: str = "user-events"
    partition: int = 2
    offset: int = 17
    timestamp: int = 1_700_000_000_000


def ours(**changes):
    return R(headers=tuple((CE | changes).items()), key=b"u1")


def test_a_record_of_ours_tells_everything():
    event = Event.read(ours())
    assert (event.id, event.type, event.key, event.version) == (CE["ce_id"].decode(), CE["ce_type"].decode(), "u1", 3)
    assert event.time == datetime(2026, 11, 24, 3, tzinfo=UTC)
    assert (event.topic, event.partition, event.offset) == ("user-events", 2, 17)


def test_a_bare_record_gets_its_type_from_action_and_its_id_from_its_place():
    event = Event.read(R())
    assert (event.type, event.id, event.key) == (UserRegistered.event_type, "user-events-2-17", "123")
    assert event.version is None
    assert event.time == datetime.fromtimestamp(1_700_000_000, UTC)


def test_a_bare_record_with_an_unknown_action_has_that_as_its_type():
    assert Event.read(R(value=b'{"userId": 1, "action": "danced"}')).type == "danced"


def test_a_redriven_bare_record_keeps_id_and_place():
    place = (("x-origin-topic", b"user-events"), ("x-origin-partition", b"2"), ("x-origin-offset", b"17"))
    event = Event.read(R(headers=place, topic="user-events.mailer.redrive", partition=2, offset=0))
    assert (event.id, event.offset, event.type) == ("user-events-2-17", 17, UserRegistered.event_type)


def test_of_a_repeated_header_the_first_counts():
    record = R(headers=(*CE.items(), ("ce_id", b"another")))
    assert Event.read(record).id == CE["ce_id"].decode()


@pytest.mark.parametrize(
    ("record", "named"),
    [
        (R(value=None), "null"),
        (R(value=b"not json"), "not JSON"),
        (R(value=b"[1]"), "action"),
        (R(value=b"{}"), "action"),
        (R(value=b"\xff\xfe"), "not JSON"),
        (ours(ce_id=b""), "ce_id"),
        (ours(ce_specversion=b"0.3"), "ce_specversion"),
        (ours(ce_time=b"yesterday"), "ce_time"),
        (ours(ce_aggregateversion=b"two"), "ce_aggregateversion"),
        (ours(ce_type=b"\xff"), "ce_type"),
    ],
)
def test_a_record_that_cannot_be_read_names_what_is_wrong(record, named):
    with pytest.raises(BadRecord, match=named):
        Event.read(record)


def test_json_depth_is_no_way_to_crash():
    with pytest.raises(BadRecord, match="not JSON"):
        Event.read(R(value=b"[" * 100_000 + b"]" * 100_000))


def test_our_bodies_carry_user_id_and_action():
    body = json.loads(UserRegistered(user_id=123, name="Ada", email="ada@example.com").encode())
    assert body == {"userId": "123", "action": "registered", "name": "Ada", "email": "ada@example.com"}
