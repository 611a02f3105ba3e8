"""Records that nobody should send: each ends in a clear dead letter, bytes untouched, and the next event flows."""

import sys
from collections import Counter

import httpx
import pytest
from tests.integration.bad_records import EXPLODED, HANDLED, OTHERS, REGISTERED, UNDECODABLE, bare, everywhere
from tests.integration.rig import LARGE, Raw, Rig, attributes, letter_of, new_user, registered, until

from contracts.users import TOPIC
from eventing.dead_letter import topic_of
from eventing.dead_letter_queue import DeadLetterQueue
from eventing.letter_filter import Filter
from eventing.redrive import plan
from eventing.selection import NO_BODY
from eventing.settings import Settings
from workbench.fleet import GROUPS, PARTITIONS, ROLES
from workbench.records import read_topic
from workbench.topics import ensure_topics

ADDED = {"traceparent", "tracestate"}  # a hop's own, beside `x-*`: a dead letter is a hop
DLQ = topic_of(TOPIC, "mailer")
FLOODED = {  # here most records end in the dead letters, and that is no alarm
    "EVENTING_CONSUMER_BREAKER_SHARE": "1",
    "EVENTING_CONSUMER_BREAKER_ROW": "1000000",
}


@pytest.fixture(scope="module")
async def rig():
    async with Rig.open(FLOODED) as rig:
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


@pytest.mark.parametrize("bad", (UNDECODABLE | OTHERS).values(), ids=(UNDECODABLE | OTHERS).keys())
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
    bad = bare(b"{" + b"x" * (LARGE // 2), everywhere("the body is not JSON"), headers=(("note", b"kept"),))
    offset = await rig.send(bad.value, bad.headers, key=bad.key)
    await flows(rig)
    found = await dead(letters, bad, offset)
    assert_untouched(found.pop("analytics"), bad)  # its topic takes large letters
    for letter in found.values():
        known = dict(letter.headers)
        assert known["x-disposition"] == b"undecodable,pointer-only"
        assert (letter.key, letter.value, known["note"]) == (bad.key, b"", b"kept")


async def test_a_key_too_large_for_the_dead_letters_leaves_a_pointer_too(rig, letters):
    bad = bare(b"{", everywhere("the body is not JSON"), key=b"k" * (LARGE // 2))
    offset = await rig.send(bad.value, key=bad.key)
    await flows(rig)
    found = await dead(letters, bad, offset)
    assert_untouched(found.pop("analytics"), bad)
    assert {(letter.key, letter.value) for letter in found.values()} == {(None, b"")}


async def test_a_pointer_is_not_sent_back_since_it_has_no_body(rig, letters):
    offset = await rig.send(b"{" + b"x" * (LARGE // 2), key=b"k")
    letter = await letter_of(letters["mailer"], offset)
    settings = Settings(kafka_bootstrap=rig.stack.broker.bootstrap)
    place = {"partitions": (letter.partition,), "offsets": str(letter.offset)}
    async with DeadLetterQueue.open(DLQ, settings) as queue:
        chosen = await plan(queue, Filter(**place))
    assert (chosen.chosen, chosen.kept) == ([], {NO_BODY: 1})


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
    await rig.send(b"{}", attributes(EXPLODED, new_user()), key=b"k")
    await flows(rig)
    async with httpx.AsyncClient(base_url=rig.fleet.url("analytics")) as http:
        answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert REGISTERED in answer.text
    assert "exploded" not in answer.text


async def test_every_service_is_ready_after_all_of_it(rig):
    for name in ("mailer", "analytics", "profile-cache"):
        status, said = await rig.probe(name)
        assert (status, set(said["checks"].values())) == (200, {"ok"})


IMPATIENT = "import eventing.runtime as r; r.DLQ_PATIENCE = 1.0; from eventing.cli import main; main()"


async def restart_mailer(rig, dlq_partitions):
    """Start the mailer anew, with a dead-letter topic of so many partitions, or none."""
    await rig.fleet.stop("mailer")
    await rig.delete_topic(DLQ)
    if dlq_partitions:
        await ensure_topics(rig.stack.broker.bootstrap, {DLQ: dlq_partitions})
    argv = [sys.executable, "-c", IMPATIENT, "consume", "mailer.handlers"]
    environment = rig.fleet._environment("mailer", ROLES["mailer"])
    rig.fleet.processes["mailer"] = await rig.home.spawn("mailer", argv, env=environment)
    if dlq_partitions:
        await rig.fleet.ready("mailer")
    else:
        await rig.unready("mailer", f"topic {DLQ} does not exist", 60)


async def test_without_its_dead_letter_topic_a_record_holds_its_key_and_no_other(rig):
    await restart_mailer(rig, dlq_partitions=0)
    offset = await rig.send(b"{", key=b"k")
    same_key, other = new_user(), new_user()
    await rig.send(*registered(same_key), key=b"k")
    for partition in (0, 1):
        end = await rig.send(*registered(other), key=other.encode(), partition=partition)
    await arrived(rig, other)
    await until(lambda: rig.has_committed("mailer", 1, end + 1))  # so it commits
    assert (await rig.committed("mailer"))[TOPIC, 0] == offset
    said = await until(lambda: rig.says("mailer", "handlers", "dead letters have not been written"))
    assert "does not exist; create it" in said["group"]
    assert (await rig.probe("mailer", "/livez"))[0] == 200
    assert not any(same_key in mail.recipients[0] for mail in rig.stack.mailbox.messages)
    await ensure_topics(rig.stack.broker.bootstrap, {DLQ: PARTITIONS})
    await arrived(rig, same_key, 15)
    letter = (await read_topic(rig.stack.broker.bootstrap, DLQ))[0]
    assert (letter.key, letter.value, letter.partition) == (b"k", b"{", 0)
    await until(lambda: rig.has_committed("mailer", 0, offset + 3))


async def test_dead_letters_find_their_way_into_a_topic_with_fewer_partitions(rig):
    await restart_mailer(rig, dlq_partitions=2)
    await rig.send(b"{", key=b"k", partition=5)
    await flows(rig, partition=5)
    letter = (await until(lambda: read_topic(rig.stack.broker.bootstrap, DLQ)))[0]
    assert (letter.partition, dict(letter.headers)["x-origin-partition"]) == (1, b"5")
