"""Dead letters on a real broker: seen, chosen and sent back, by the command an engineer types and by the library."""

import asyncio
import io
import json
import os
import signal
import sys
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from functools import partial

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from eventing.cli import main
from eventing.database import Database
from eventing.dead_letter import redrive_topic_of, topic_of
from eventing.dead_letter_queue import DeadLetterQueue
from eventing.discard import discard
from eventing.errors import EventingError, Misconfigured, SendFailed
from eventing.fence import PostgresFence
from eventing.letter_filter import Filter
from eventing.migrate import migrate
from eventing.port import Spot
from eventing.producer import Producer
from eventing.redrive import BATCH, Redrive, plan
from eventing.selection import MAX_REDRIVES
from eventing.settings import Settings, settings
from workbench.ports import free_port
from workbench.records import read_topic
from workbench.topics import ensure_topics

GROUP = "mailer"
PARKED = "sequence-parked"


class Desk:
    """The dead letters of one group, and the command that works on them."""

    def __init__(self, topic, bootstrap):
        self.topic, self.bootstrap = topic, bootstrap
        self.dlq, self.back = topic_of(topic, GROUP), redrive_topic_of(topic, GROUP)
        self.settings = Settings(kafka_bootstrap=bootstrap)

    def letter(self, n, *, key="k", reason="exhausted", value=b"{}", redrives=0, **more):
        """Return key, value and headers of a dead letter as a consumer writes it; `n` is its offset at the origin."""
        known = {
            "ce_id": f"event-{n}",
            "ce_type": "user.v1",
            "x-dlq-id": f"id-{n}",
            "x-origin-topic": self.topic,
            "x-origin-partition": "0",
            "x-origin-offset": str(n),
            "x-group": GROUP,
            "x-disposition": reason,
            "x-attempt": "5",
            "x-error-type": "TimeoutError",
            "x-error-message": "no answer",
            "x-last-failed-at": f"2026-11-24T12:00:{n % 60:02}+00:00",
        }
        known |= {"x-redrive-count": str(redrives)} if redrives else {}
        known |= {name.replace("_", "-"): text for name, text in more.items()}
        return key and key.encode(), value, [(name, text.encode()) for name, text in known.items()]

    async def put(self, *letters, partition=0, transaction=None):
        """Write dead letters, in one transaction if it has a name."""
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap, transactional_id=transaction) as producer:
            if transaction:
                await producer.begin_transaction()
            for key, value, known in letters:
                await producer.send(self.dlq, value, key=key, headers=known, partition=partition)
            await producer.flush()
            if transaction:
                await producer.commit_transaction()

    async def run(self, *arguments):
        """Run `eventing dlq` in this process; returns the exit code, and what it wrote to stdout and stderr."""
        return await asyncio.to_thread(_main, arguments, self.bootstrap)

    async def spawn(self, *arguments, bootstrap=None):
        """Run `eventing dlq` as a process; returns the same."""
        process = await self.start(*arguments, bootstrap=bootstrap)
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    async def start(self, *arguments, bootstrap=None):
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "eventing.cli", "dlq", *arguments,
            env=os.environ | _environment(bootstrap or self.bootstrap),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def redrive(self, wanted=None, *, rate=10_000, **options):
        async with DeadLetterQueue.open(self.dlq, self.settings) as queue, Producer(self.settings) as producer:
            return await Redrive(queue, producer, rate=rate).run(await plan(queue, wanted or Filter(), **options))

    async def waiting(self):
        async with DeadLetterQueue.open(self.dlq, self.settings) as queue:
            return [letter.known["ce_id"] async for letter in queue.letters()]

    async def returned(self, topic=None):
        """Return the ids of the events that were sent back, in order."""
        found = await read_topic(self.bootstrap, topic or self.back)
        return [dict(record.headers)["ce_id"].decode() for record in found]

    async def committed(self):
        async with AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=f"{self.dlq}.redrive") as reader:
            return await reader.committed(TopicPartition(self.dlq, 0))

    async def end(self):
        async with AIOKafkaConsumer(bootstrap_servers=self.bootstrap) as reader:
            tp = TopicPartition(self.dlq, 0)
            return (await reader.end_offsets([tp]))[tp]


def _environment(bootstrap):
    return {"EVENTING_KAFKA_BOOTSTRAP": bootstrap, "EVENTING_KAFKA_REQUEST_TIMEOUT": "5", "COLUMNS": "200"}


def _main(arguments, bootstrap):
    """Run the command line; not in the main thread, where an event loop runs, so without its handler of SIGTERM."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in _environment(bootstrap).items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["eventing", "dlq", *arguments])
        patch.setattr(signal, "signal", lambda *_: None)
        settings.cache_clear()
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code
        finally:
            settings.cache_clear()
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
async def desk(broker, topic_name):
    desk = Desk(topic_name("users"), broker.bootstrap)
    await ensure_topics(broker.bootstrap, {desk.topic: 1, desk.dlq: 2, desk.back: 1})
    return desk


def events(*numbers):
    return [f"event-{n}" for n in numbers]


async def test_list_writes_one_json_object_per_letter_that_matches(desk):
    await desk.put(*(desk.letter(n, reason="permanent" if n % 2 else "exhausted") for n in range(6)))
    await desk.put(desk.letter(100, key=None), partition=1)
    code, out, _ = await desk.run("list", desk.dlq, "--json", "--reason", "exhausted")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["originOffset"] for line in lines] == [0, 2, 4, 100]
    assert lines[0] == {
        "id": "id-0", "key": "k", "reason": "exhausted", "pointer": False, "error": "TimeoutError",
        "message": "no answer", "type": "user.v1", "eventId": "event-0", "attempts": "5", "redrives": 0,
        "lastFailed": "2026-11-24T12:00:00+00:00", "partition": 0, "offset": 0,
        "originTopic": desk.topic, "originPartition": 0, "originOffset": 0,
    }  # fmt: skip
    assert lines[-1]["key"] is None


async def test_every_option_of_the_filter_is_understood_and_means_what_the_json_means(desk):
    await desk.put(*(desk.letter(n, key=f"k{n}") for n in range(4)))
    options = {
        ("--id", "id-2"): {"ids": ["id-2"]},
        ("--key", "k2"): {"keys": ["k2"]},
        ("--reason", "exhausted", "--offset", "2"): {"reasons": ["exhausted"], "offsets": "2"},
        ("--error", "TimeoutError", "--origin-offset", "2"): {"errors": ["TimeoutError"], "originOffsets": "2"},
        ("--type", "user.v1", "--header", "ce_id=event-2"): {"types": ["user.v1"], "headers": {"ce_id": "event-2"}},
        ("--since", "2026-11-24T12:00:02Z", "--until", "2026-11-24T12:00:03Z"): {
            "since": "2026-11-24T12:00:02Z",
            "until": "2026-11-24T12:00:03Z",
        },
        ("--partition", "0", "--origin-topic", desk.topic, "--origin-partition", "0", "--id", "id-2"): {
            "partitions": [0],
            "originTopics": [desk.topic],
            "originPartitions": [0],
            "ids": ["id-2"],
        },
    }
    for arguments, fields in options.items():
        for given in (arguments, ("--filter", json.dumps(fields))):
            code, out, err = await desk.run("list", desk.dlq, "--json", *given)
            assert (code, [json.loads(line)["id"] for line in out.splitlines()]) == (0, ["id-2"]), (given, err)


async def test_what_a_stranger_wrote_neither_breaks_the_table_nor_steers_the_terminal(desk):
    await desk.put(desk.letter(1, x_error_message="[/bold] \x1b[2J gone"), (None, b"hello", []))
    code, out, _ = await desk.run("list", desk.dlq)
    assert code == 0
    assert r"[/bold] \x1b[2J gone" in out
    assert "0-1" in out, "a record that is no letter has an id all the same"
    code, out, _ = await desk.run("list", desk.dlq, "--limit", "1")
    assert "more than 1 match" in out


@pytest.mark.parametrize(
    ("value", "more", "said"),
    [
        ('{"name": "Zoë"}'.encode(), {}, 'body, 16 bytes of text:\n{"name": "Zoë"}'),
        (b"\xff\x00\x01", {}, "body, 3 bytes that are not UTF-8, in hex:\nff 0001"),
        (None, {}, "body: none, the value is null"),
        (b"", {"reason": "undecodable,pointer-only"}, "body: none, the letter is a pointer; the bytes are at "),
    ],
)
async def test_show_says_how_it_shows_the_body(desk, value, more, said):
    await desk.put(desk.letter(1), desk.letter(2, value=value, x_note="a\x07", **more))
    code, out, _ = await desk.run("show", desk.dlq, "id-2")
    assert code == 0
    assert said in out
    assert r"x-note: a\x07" in out
    assert "key: k" in out


async def test_a_dry_run_says_what_would_go_and_what_would_stay_and_why_and_sends_nothing(desk):
    await desk.put(
        desk.letter(1),
        desk.letter(2, reason=PARKED),
        desk.letter(3, key="a", redrives=MAX_REDRIVES),
        desk.letter(4, key="b", reason="undecodable,pointer-only"),
        desk.letter(5, key="c", reason="permanent"),
        desk.letter(5, key="c", reason="permanent"),
    )
    code, out, _ = await desk.run("redrive", desk.dlq, "--dry-run", "--reason", "exhausted", "--reason", PARKED)
    assert code == 0
    assert out.splitlines() == [
        f"would redrive 2 of 6 waiting letters, to {desk.back}",
        "  exhausted: 1",
        "  sequence-parked: 1",
        "  parked keys: 1, with 2 letters, each whole and in order",
        "kept: 1, came back 3 times; --force sends them",
        "not asked for: 2",
    ]
    code, out, _ = await desk.run("redrive", desk.dlq, "--dry-run")
    assert "kept: 1, pointer: too large for a letter, it has no body" in out
    assert "superseded: 1, there is a newer letter of the same event" in out
    code, out, _ = await desk.run("redrive", desk.dlq, "--dry-run", "--reason", "exhaustd")
    assert "nothing to send; what waits, by reason: exhausted 2, permanent 2, sequence-parked 1, undecodable 1" in out
    assert await desk.returned() == []
    assert await desk.committed() is None


async def test_what_matches_goes_back_to_its_group_in_order_once_and_the_rest_waits(desk):
    await desk.put(*(desk.letter(n, key=f"k{n}", reason="permanent" if n % 3 else "exhausted") for n in range(9)))
    code, out, _ = await desk.run("redrive", desk.dlq, "--reason", "exhausted")
    assert (code, "sent 3, not asked for 6, kept 0" in out) == (0, True)
    assert await desk.returned() == events(0, 3, 6)
    assert await desk.waiting() == events(1, 2, 4, 5, 7, 8)
    code, out, _ = await desk.run("redrive", desk.dlq, "--reason", "exhausted")
    assert (code, await desk.returned()) == (0, events(0, 3, 6)), "a second run sends nothing again"
    await desk.redrive(limit=2)
    assert await desk.waiting() == events(4, 5, 7, 8)
    await desk.redrive()
    assert await desk.waiting() == []
    assert Counter(await desk.returned()) == Counter(events(*range(9)))
    assert await desk.committed() == 9


async def test_a_redriven_letter_is_as_it_came_with_its_count(desk):
    await desk.put(desk.letter(1, value=b"\x00\xff", note="kept"))
    done = await desk.redrive()
    (record,) = await read_topic(desk.bootstrap, desk.back)
    known = dict(record.headers)
    assert (record.key, record.value, known["note"]) == (b"k", b"\x00\xff", b"kept")
    assert (known["x-redrive-count"], known["x-redrive-id"]) == (b"1", done.id.encode())


async def test_a_filter_that_tears_a_parked_key_is_refused_and_whole_keys_takes_it_in_order(desk):
    head = desk.letter(1, redrives=1)  # failed again, so it is behind the others
    await desk.put(desk.letter(2, reason=PARKED), desk.letter(7, key="other"), desk.letter(3, reason=PARKED), head)
    code, out, err = await desk.run("redrive", desk.dlq, "--reason", "exhausted")
    assert (code, out) == (2, "")
    assert "1 parked key and leaves out 2" in err
    assert "--whole-keys" in err
    assert await desk.returned() == []
    code, out, _ = await desk.run("redrive", desk.dlq, "--id", "id-1", "--whole-keys")
    assert code == 0
    assert "parked keys: 1, with 3 letters" in out
    assert await desk.returned() == events(1, 2, 3)
    assert await desk.waiting() == events(7)


async def test_of_several_letters_of_one_event_the_newest_goes_and_none_of_them_waits_any_more(desk):
    await desk.put(desk.letter(1, x_note="first"), desk.letter(2, key="b"), desk.letter(1, redrives=1, x_note="second"))
    done = await desk.redrive(Filter(ids=("id-1",)))
    assert (done.sent, done.superseded) == (1, 1)
    (record,) = await read_topic(desk.bootstrap, desk.back)
    assert dict(record.headers)["x-note"] == b"second"
    assert await desk.waiting() == events(2)


async def test_the_shared_topic_is_reached_only_by_its_own_name_and_with_a_warning(desk):
    await desk.put(desk.letter(1))
    code, _, err = await desk.run("redrive", desk.dlq, "--to", "user-event")
    assert (code, f"come from {desk.topic}; name that topic" in err) == (2, True)
    code, _, err = await desk.run("redrive", desk.dlq, "--to", desk.topic)
    assert (code, f"every consumer group that reads {desk.topic} gets these letters again" in err) == (0, True)
    assert (await desk.returned(desk.topic), await desk.returned()) == (events(1), [])


async def test_a_parked_key_never_goes_to_the_shared_topic_where_nothing_would_free_it(desk):
    await desk.put(desk.letter(1), desk.letter(2, reason=PARKED))
    code, _, err = await desk.run("redrive", desk.dlq, "--to", desk.topic)
    assert (code, "only their group's redrive topic frees them" in err) == (2, True)


async def test_what_came_back_too_often_goes_by_force_with_a_warning(desk):
    await desk.put(desk.letter(1, redrives=MAX_REDRIVES))
    code, out, _ = await desk.run("redrive", desk.dlq)
    assert (code, "sent 0" in out, "came back 3 times; --force sends them" in out) == (0, True, True)
    code, out, err = await desk.run("redrive", desk.dlq, "--force")
    assert (code, "sent 1" in out, "warning: --force" in err) == (0, True, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "nothing.here.dlq"), "topic nothing.here.dlq does not exist; names are <topic>.<group>.dlq"),
        (("redrive", "{dlq}", "--filter", '{"reason": []}'), "unknown key 'reason'; known are ids, keys, reasons"),
        (("redrive", "{dlq}", "--filter", "["), "--filter: not JSON"),
        (("redrive", "{dlq}", "--filter", "[]"), "--filter: needs an object"),
        (("list", "{dlq}", "--filter", '{"ids": ["a"]}', "--id", "b"), "--id: ids is in --filter too"),
        (("list", "{dlq}", "--header", "x"), "--header x: write NAME=VALUE"),
        (("list", "{dlq}", "--header", "x=1", "--header", "x=2"), "--header x is given twice"),
        (("list", "{dlq}", "--offset", "200-100"), "range 200-100 ends before it begins"),
        (("list", "{dlq}", "--partition", "x"), "partitions.0"),
        (("list", "{dlq}", "--since", "yesterday"), "since: needs date, time and zone"),
        (("redrive", "{dlq}", "--rate", "0"), "Invalid value for '--rate'"),
        (("redrive", "{dlq}", "--rate", "nan"), "Invalid value for '--rate'"),
        (("show", "{dlq}", "none"), "has no dead letter none; `eventing dlq list"),
    ],
    ids=lambda given: None if isinstance(given, str) else given[-1],
)
async def test_a_mistake_is_named_with_its_remedy(desk, arguments, said):
    code, out, err = await desk.run(
        *(argument.format(dlq=desk.dlq) if argument == "{dlq}" else argument for argument in arguments)
    )
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())


async def test_a_broker_that_does_not_answer_is_named(desk):
    nowhere = f"127.0.0.1:{free_port()}"
    for arguments in (("list", desk.dlq), ("redrive", desk.dlq), ("show", desk.dlq, "x")):
        code, out, err = await desk.spawn(*arguments, bootstrap=nowhere)
        assert (code, out) == (2, "")
        assert f"Kafka at {nowhere} does not answer" in err
        assert len(err.splitlines()) == 1


async def test_a_missing_redrive_topic_is_named_and_everything_still_waits(desk):
    await desk.put(desk.letter(1, x_group="nobody"))
    with pytest.raises(SendFailed, match=rf"{desk.topic}.nobody.redrive does not exist"):
        await desk.redrive()
    assert await desk.waiting() == events(1)


async def test_a_killed_redrive_is_run_again_nothing_is_lost_and_a_batch_at_most_is_sent_twice(desk):
    await desk.put(*(desk.letter(n, key=f"k{n % 7}") for n in range(600)))
    process = await desk.start("redrive", desk.dlq, "--rate", "300")
    async with asyncio.timeout(30):
        while len(await desk.returned()) < 150:
            await asyncio.sleep(0.01)
    process.kill()
    await process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = await desk.returned()
    assert len(before) < 600, "it was killed in the middle"
    await desk.redrive()
    found = Counter(await desk.returned())
    assert set(found) == set(events(*range(600)))
    assert max(found.values()) <= 2
    assert sum(n - 1 for n in found.values()) <= BATCH
    assert await desk.waiting() == []
    for key in range(7):
        first = [e for e in dict.fromkeys(await desk.returned()) if int(e.split("-")[1]) % 7 == key]
        assert first == events(*range(key, 600, 7))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_redrive_says_how_far_it_came_and_repeats_nothing(desk, number):
    await desk.put(*(desk.letter(n, key=f"k{n % 7}") for n in range(300)))
    process = await desk.start("redrive", desk.dlq, "--rate", "100")
    async with asyncio.timeout(30):
        while len(await desk.returned()) < 120:
            await asyncio.sleep(0.01)
    process.send_signal(number)
    out, err = await process.communicate()
    sent = len(await desk.returned())
    assert (process.returncode, out) == (130, b"")
    assert f"sent {sent}; run the same command again".encode() in err
    await desk.redrive()
    assert Counter(await desk.returned()) == Counter(events(*range(300)))


async def test_of_two_redrives_at_once_one_gives_up_by_name(desk):
    await desk.put(*(desk.letter(n) for n in range(3)))
    async with DeadLetterQueue.open(desk.dlq, desk.settings) as queue, Producer(desk.settings) as producer:
        chosen = await plan(queue, Filter())
        await desk.redrive(Filter(ids=("id-1",)))
        with pytest.raises(EventingError, match=r"another redrive of .* is under way"):
            await Redrive(queue, producer).run(chosen)
    assert await desk.waiting() == events(0, 2)


async def test_markers_of_transactions_do_not_hold_the_watermark(desk):
    for n in range(4):
        await desk.put(desk.letter(n), transaction=f"{desk.topic}-tx")
    await desk.redrive(Filter(ids=("id-0", "id-1", "id-2")))
    assert await desk.waiting() == events(3)
    assert await desk.committed() == 6
    await desk.redrive()
    assert await desk.committed() == await desk.end() == 8


async def test_letters_whose_retention_ends_under_way_are_counted_and_the_others_go(desk):
    await desk.put(*(desk.letter(n, key=f"k{n}") for n in range(6)))
    async with DeadLetterQueue.open(desk.dlq, desk.settings) as queue, Producer(desk.settings) as producer:
        chosen = await plan(queue, Filter())
        admin = AIOKafkaAdminClient(bootstrap_servers=desk.bootstrap)
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(desk.dlq, 0): RecordsToDelete(before_offset=4)})
        finally:
            await admin.close()
        done = await Redrive(queue, producer).run(chosen)
    assert (done.sent, done.expired) == (2, 4)
    assert await desk.returned() == events(4, 5)
    assert await desk.waiting() == []


async def test_a_discarded_letter_waits_no_longer_and_stays_in_its_topic(desk):
    await desk.put(desk.letter(1), desk.letter(2, reason="permanent"), desk.letter(3))
    code, out, _ = await desk.run("discard", desk.dlq, "--reason", "permanent", "--why", "a typo of ours")
    assert (code, out.splitlines()[-1]) == (0, "discarded 1")
    assert "a typo of ours" in out, "the log says why"
    assert await desk.waiting() == ["event-1", "event-3"]
    assert len(await read_topic(desk.bootstrap, desk.dlq)) == 3
    assert await desk.returned() == []


async def test_nothing_is_discarded_by_leaving_out_the_filter(desk):
    await desk.put(desk.letter(1))
    code, _, err = await desk.run("discard", desk.dlq, "--why", "in haste")
    assert code == 2
    assert "say --all" in err
    assert await desk.waiting() == ["event-1"]
    assert (await desk.run("discard", desk.dlq, "--all", "--why", "test data"))[0] == 0
    assert await desk.waiting() == []


async def test_a_parked_key_is_free_once_its_letters_are_discarded(desk, database):
    url = await database()
    await migrate(url)
    await desk.put(desk.letter(1), desk.letter(2, reason=PARKED))
    async with Database(url) as db, DeadLetterQueue.open(desk.dlq, desk.settings) as queue:
        fence = PostgresFence(db, GROUP)
        for offset in (1, 2):
            await fence.park(Spot(desk.topic, b"k", 0, offset))
        with pytest.raises(Misconfigured, match="EVENTING_DATABASE_URL"):
            await discard(queue, Filter(reasons=(PARKED,)), why="x", fence_of=None)
        assert await discard(queue, Filter(ids=("id-1",)), why="x", fence_of=partial(PostgresFence, db)) == 1
        assert await fence.enter(Spot(desk.topic, b"k", 0, 2)) == "head"
        assert await discard(queue, Filter(), why="x", fence_of=partial(PostgresFence, db)) == 1
        assert await fence.keys() == set()
