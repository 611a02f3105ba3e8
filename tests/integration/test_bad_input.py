"""Records that nobody should send: each ends in a clear dead letter, bytes untouched, and the next event flows."""

import json
from collections import Counter
from dataclasses import dataclass, field

import pytest
from tests.integration.rig import LARGE, Raw, Rig, attributes, letter_of, new_user, registered, until

from eventing.dead_letter import topic_of
from workbench.fleet import GROUPS

HANDLED = None
ADDED = {"traceparent", "tracestate"}  # a hop's own, beside `x-*`: a dead letter is a hop
REGISTERED = "com.evenkeel.user.registered.v1"
EXPLODED = "com.evenkeel.user.exploded.v1"


@dataclass(frozen=True)
class Bad:
    """A record, and by group: how it ends, as disposition and words of the message, or HANDLED."""

    value: bytes | None
    fates: dict[str, tuple[str, str] | None]
    headers: tuple[tuple[str, bytes | None], ...] = ()
    key: bytes | None = field(default_factory=lambda: new_user().encode())


def everywhere(words, disposition="undecodable"):
    return dict.fromkeys(GROUPS, (disposition, words))


def in_mailer(words, disposition="unknown-type"):
    """Dead-lettered by the mailer; analytics and the cache take every event."""
    return {"mailer": (disposition, words), "analytics": HANDLED, "profile-cache": HANDLED}


def event(words, value=b'{"userId": "u", "action": "registered"}', event_type=REGISTERED, **more):
    return Bad(value, everywhere(words), tuple(attributes(event_type, "u", **more)))


def without(name, **more):
    bad = event(f"header ce_{name} is missing")
    return Bad(bad.value, bad.fates, tuple(pair for pair in bad.headers if pair[0] != f"ce_{name}"), **more)


def bare(body, fates, **more):
    return Bad(body if isinstance(body, bytes) else json.dumps(body).encode(), fates, **more)


UNDECODABLE = {
    "no JSON": bare(b"{", everywhere("the body is not JSON")),
    "nothing": bare(b"", everywhere("the body is not JSON")),
    "not UTF-8": bare(b'{"userId": "\xff", "action": "registered"}', everywhere("not JSON")),
    "JSON too deep": bare(b"[" * 100_000, everywhere("the body is not JSON")),
    "a number too long": bare(b"1" * 5_000, everywhere("the body is not JSON")),
    "no object": bare([1], everywhere("no 'action'")),
    "no action": bare({"userId": "u"}, everywhere("no 'action'")),
    "an action that is no text": bare({"userId": "u", "action": 5}, everywhere("no 'action'")),
    "no userId": bare({"action": "registered"}, everywhere("userId: Field required")),
    "an empty userId and an empty key": bare({"userId": "", "action": "registered"}, everywhere("userId"), key=b""),
    "a userId that is no id": bare({"userId": {"a": 1}, "action": "registered"}, everywhere("userId")),
    "no address": bare({"userId": 1, "action": "registered", "email": "ada"}, everywhere("email")),
    "an event, no JSON": event("body: Invalid JSON", b"{"),
    "an event, no userId": event("userId: Field required", b"{}"),
    "an event, the action of another": event("action", b'{"userId": "u", "action": "deleted"}'),
    "an event, no address": event("email", b'{"userId": "u", "email": "a@b@c"}'),
    "null and a key": Bad(None, everywhere("the body is null")),
    "null and no key": Bad(None, everywhere("the body is null"), key=None),
    "null in an event": event("the body is null", None),
    "a header that is not UTF-8": bare(b"{}", everywhere("header x-note is not UTF-8"), headers=(("x-note", b"\xff"),)),
    "a time that is none": event("header ce_time is 'yesterday'", time="yesterday"),
    "a time out of range": event("header ce_time", time="9999-12-31T23:59:59-23:59"),
    "another version of CloudEvents": event("header ce_specversion is '0.3'", specversion="0.3"),
    "a version that is no number": event("header ce_aggregateversion is 'two'", aggregateversion="two"),
    "a version that is no 64-bit number": event("header ce_aggregateversion is '1000", aggregateversion=str(10**30)),
    "a negative version": event("header ce_aggregateversion is '-1'", aggregateversion="-1"),
    "an expiry that is none": event("header ce_expirytime", expirytime="soon"),
    "no id": without("id"),
    "no type": without("type"),
    "no source": without("source"),
    "headers twice, the first ones wrong": Bad(
        b'{"userId": "u", "action": "registered"}',
        everywhere("header ce_specversion is '9'"),
        (("ce_specversion", b"9"), ("n", b"1"), ("n", b"2"), ("ce_id", b"i1"), ("ce_id", b"i2"))
        + tuple(attributes(REGISTERED, "u")),
    ),
    "a forged origin": bare(
        b"{",
        everywhere("not JSON"),
        headers=(("x-origin-topic", b"elsewhere"), ("x-origin-partition", b"99"), ("x-origin-offset", b"7")),
    ),
}

UNKNOWN = {
    "an unknown action": bare({"userId": "u", "action": "exploded"}, in_mailer("'exploded'")),
    "an unknown type": Bad(b"{}", in_mailer(repr(EXPLODED)), tuple(attributes(EXPLODED, "u"))),
    "an action that is no Unicode": bare(b'{"userId": "u", "action": "\\ud800"}', everywhere("action")),
    "an unknown type, no JSON": Bad(
        b"{",
        everywhere("the body is not JSON") | {"mailer": ("unknown-type", repr(EXPLODED))},
        tuple(attributes(EXPLODED, "u")),
    ),
    "no address in an event": bare(
        {"userId": "u", "action": "registered"}, in_mailer("email is missing", "permanent"), key=None
    ),
    "an id with a NUL": Bad(
        b'{"userId": "u", "action": "registered", "email": "nul@example.com"}',
        in_mailer("0x00", "exhausted") | {"analytics": ("exhausted", "0x00")},
        tuple(attributes(REGISTERED, "u", id="a\0b")),
    ),
}


@pytest.fixture(scope="module")
async def rig():
    async with Rig.open() as rig:
        await rig.fleet.start(["mailer", "analytics", "profile-cache"])
        yield rig


@pytest.fixture(scope="module")
async def letters(rig):
    async with rig.letters() as tails:
        yield tails


async def flows(rig, partition=0, seconds=8):
    """Assert that a good event on the partition gets through every service soon."""
    user = new_user()
    await rig.send(*registered(user), key=user.encode(), partition=partition)
    await arrived(rig, user, seconds)


async def arrived(rig, user, seconds=8):
    await until(lambda: sum(m.recipients == (f"{user}@example.com",) for m in rig.stack.mailbox.messages), seconds)
    audited = "SELECT FROM audit_log WHERE event_id = $1"
    await until(lambda: rig.fetch("analytics", audited, f"e-{user}"), seconds)
    await until(lambda: rig.cached(user), seconds)


async def dead(letters, bad, offset, partition=0):
    """Return the dead letters of a record, once there is one for every group that should write one."""
    groups = [group for group, fate in bad.fates.items() if fate is not HANDLED]
    return {group: await letter_of(letters[group], offset, partition) for group in groups}


def assert_untouched(letter, bad):
    ours = {name for name, _ in letter.headers if name.startswith("x-")} - {"x-note"}
    came = Counter(pair for pair in bad.headers if pair[0] not in ADDED | ours)
    assert (letter.key, letter.value) == (bad.key, bad.value)
    assert came <= Counter(letter.headers)
    assert len(letter.headers) == len({n for n, _ in letter.headers}) + _repeated(bad)


def _repeated(bad):
    return len(bad.headers) - len({name for name, _ in bad.headers})


@pytest.mark.parametrize("bad", (UNDECODABLE | UNKNOWN).values(), ids=(UNDECODABLE | UNKNOWN).keys())
async def test_a_bad_record_ends_in_a_clear_dead_letter_and_the_next_event_flows(rig, letters, bad):
    offset = await rig.send(bad.value, bad.headers, key=bad.key)
    await flows(rig)
    for group, letter in (await dead(letters, bad, offset)).items():
        known = dict(letter.headers)
        disposition, words = bad.fates[group]
        assert known["x-disposition"].decode() == disposition
        assert words in known["x-error-message"].decode()
        assert (known["x-group"].decode(), letter.partition) == (group, 0)
        assert_untouched(letter, bad)
    assert await letters_at(letters, offset) == {group for group, fate in bad.fates.items() if fate is not HANDLED}


async def letters_at(letters, offset):
    here = ("x-origin-offset", b"%d" % offset)
    return {group for group, tail in letters.items() if any(here in r.headers for r in tail.records)}


async def test_an_event_of_an_unknown_type_is_in_the_audit_log(rig):
    user = new_user()
    await rig.send(b'{"x": 1}', attributes(EXPLODED, user), key=user.encode())
    found = "SELECT type, user_id, convert_from(body, 'UTF8') AS body FROM audit_log WHERE event_id = $1"
    row = (await until(lambda: rig.fetch("analytics", found, f"e-{user}")))[0]
    assert tuple(row) == (EXPLODED, user, '{"x": 1}')


@pytest.mark.parametrize("extra", [(("traceparent", b"x" * 10_000),), (("ce_id", b"other"), ("ce_type", b"other"))])
async def test_odd_headers_do_not_harm_a_good_event(rig, letters, extra):
    user = new_user()
    value, headers = registered(user)
    offset = await rig.send(value, [*headers, *extra], key=user.encode())
    await arrived(rig, user)
    await flows(rig)
    assert await letters_at(letters, offset) == set()


async def test_a_good_event_of_two_megabytes_is_handled(rig):
    user = new_user()
    value, headers = registered(user, padding="x" * (LARGE // 2))
    await rig.send(value, headers, key=user.encode())
    await arrived(rig, user)


async def test_a_bad_record_too_large_for_the_dead_letters_leaves_a_pointer(rig, letters):
    bad = bare(b"{" + b"x" * (LARGE // 2), everywhere("the body is not JSON"))
    offset = await rig.send(bad.value, key=bad.key)
    await flows(rig)
    for letter in (await dead(letters, bad, offset)).values():
        known = dict(letter.headers)
        assert known["x-disposition"] == b"undecodable,pointer-only"
        assert (letter.key, letter.value) == (bad.key, b"")


async def test_a_header_name_that_is_not_utf8_is_dead_lettered_and_its_batch_flows(rig, letters):
    first, last = new_user(), new_user()
    bad = ((Raw(b"\xff\xfe"), b"v"), ("n", b"1"))
    batch = [(b"k", *registered(first)), (b"k", b'{"userId": "u"}', bad), (b"k", *registered(last))]
    offset = await rig.send_batch(batch, partition=1)
    await flows(rig, partition=1)
    for group in GROUPS:
        letter = await letter_of(letters[group], offset + 1, partition=1)
        assert "header" in dict(letter.headers)["x-error-message"].decode()
        assert (letter.key, letter.value) == (b"k", b'{"userId": "u"}')
    await arrived(rig, first)
    await arrived(rig, last)


async def test_metrics_name_no_type_that_no_contract_describes(rig):
    import httpx

    async with httpx.AsyncClient(base_url=rig.fleet.url("analytics")) as http:
        answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert REGISTERED in answer.text
    assert "exploded" not in answer.text


async def test_every_service_is_ready_after_all_of_it(rig):
    for name in ("mailer", "analytics", "profile-cache"):
        status, said = await rig.probe(name)
        assert (status, set(said["checks"].values())) == (200, {"ok"})
    assert topic_of("user-events", "mailer") == "user-events.mailer.dlq"
