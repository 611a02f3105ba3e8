"""Defects that other consumer runtimes have had, and what the client library can do to ours: each shown not to happen.

Members are real processes. Numbers behind PC are issues of Confluent's Parallel Consumer.
"""

import asyncio
import itertools
import time

import httpx
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from tests.integration.chaos_rig import Crew, Parts
from tests.integration.chaos_source import tick
from tests.integration.rig import until

from workbench.home import Home

SESSION = 3.0  # seconds
CLEANER = {"log.cleaner.backoff.ms": "200"}  # 15 s by default

_groups = (f"defect{number}" for number in itertools.count())


class Bench:
    """A group of its own: what a test writes, and what it asks."""

    def __init__(self, crew):
        self.crew = crew

    async def join(self, slot, **settings):
        """Start a member."""
        await self.crew.join(slot, EVENTING_CONSUMER_SESSION_TIMEOUT=str(SESSION), **settings)

    async def write(self, *ticks, kind="plain", partition=0, producer=None):
        """Write events `(key, n)` or `(key, n, {pause, failures})`, in order."""
        if producer is None:
            async with AIOKafkaProducer(bootstrap_servers=self.crew.broker.bootstrap, acks="all") as own:
                return await self.write(*ticks, kind=kind, partition=partition, producer=own)
        for key, n, *options in ticks:
            body, headers = tick(kind, key or "", n, **(options[0] if options else {}))
            record_key = None if key is None else key.encode()
            await producer.send(self.crew.topics[kind], body, key=record_key, headers=headers, partition=partition)
        return await producer.flush()

    def handled(self, outcome="ended", who=None):
        """Return the handlings that came to `outcome`, in the order of their ends."""
        found = [h for h in self.crew.audit().handlings if h.outcome == outcome and who in (None, h.who)]
        return sorted(found, key=lambda handling: handling.last)

    def keys(self):
        """Return the keys whose handlings ended, in order."""
        return [handling.key for handling in self.handled()]

    async def ended(self, count, seconds=30):
        """Wait until `count` handlings have ended."""
        await until(lambda: len(self.handled()) >= count, seconds)

    async def begun(self, count=1, seconds=30):
        """Wait until `count` handlings have begun."""
        await until(lambda: len(self.crew.audit().handlings) >= count, seconds)

    def assignments(self, slot):
        """Return how often a member was given partitions, or none."""
        return self.crew.members[slot].log.read_text().count("partitions_assigned")

    async def assigned(self, slot, seconds=20):
        """Wait until a member has its first assignment."""
        await until(lambda: self.assignments(slot), seconds)

    async def metric(self, slot, name):
        """Return the sum of a metric of a member."""
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.crew.ports[slot]}") as http:
            lines = (await http.get("/metrics")).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    async def delete_before(self, offset):
        """Delete the records of partition 0 before an offset, as retention does."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.crew.broker.bootstrap)
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(self.crew.topics["plain"], 0): RecordsToDelete(offset)})
        finally:
            await admin.close()

    def transactional(self, name):
        """Return a producer of transactions."""
        return AIOKafkaProducer(bootstrap_servers=self.crew.broker.bootstrap, transactional_id=name)

    async def position(self):
        """Return what the group has committed of partition 0 of `plain`."""
        return (await self.crew.committed()).get((self.crew.topics["plain"], 0), 0)


@pytest.fixture(scope="module")
async def parts(broker):
    """A broker behind three proxies and a database; `broker` proves that they are to be had."""
    async with Home.open() as home:
        yield await Parts.start(home, slots=3, properties=CLEANER)


@pytest.fixture
async def gather(parts):
    """Make a group, by default with one partition per topic; its members are killed at the end."""
    crews = []

    async def gather(**options):
        crews.append(await Crew.gather(parts, next(_groups), **{"partitions": 1} | options))
        return Bench(crews[-1])

    yield gather
    for crew in crews:
        for member in crew.members.values():
            await member.kill()


async def test_consumption_goes_on_after_every_rebalance(gather):
    """PC #857: partitions that came back were taken for lost; here they are full when they go."""
    bench = await gather(partitions=4)
    for partition in range(4):
        await bench.write(*((f"k{n % 7}", n, {"pause": 0.05}) for n in range(150)), partition=partition)
    full = {"EVENTING_CONSUMER_MAX_RECORDS": "40", "EVENTING_CONSUMER_CONCURRENCY": "4"}
    await bench.join(0, **full)
    await bench.begun(20)
    for _ in range(3):
        await bench.join(1, **full)
        await bench.assigned(1)
        await bench.crew.leave(1)
        await bench.crew.settle()
    await bench.crew.finished()
    assert bench.crew.audit().lost(await bench.crew.places("plain")) == []
    assert list(bench.crew.audit().disordered()) == []


@pytest.mark.parametrize("kind", ["plain", "threaded"])
async def test_handlers_that_take_longer_than_the_session_cause_no_rebalance(gather, kind):
    """PC #637, and heartbeats that share the event loop with handlers."""
    bench = await gather(partitions=2)
    for slot in (0, 1):
        await bench.join(slot)
        await bench.assigned(slot)
    await until(lambda: bench.assignments(0) == 2)
    for partition in (0, 1):
        await bench.write(*(("k", n, {"pause": 1.5 * SESSION}) for n in range(2)), kind=kind, partition=partition)
    await bench.ended(4, 60)
    assert (bench.assignments(0), bench.assignments(1)) == (2, 1)
    assert len(bench.crew.audit().handlings) == 4


async def test_a_drain_longer_than_the_session_loses_no_membership_and_repeats_nothing(gather):
    """The whole group waits for the slowest drain, and the client's default would give up on it after a session."""
    bench = await gather(partitions=2)
    await bench.join(0)
    await bench.write(("k", 0, {"pause": 2 * SESSION}))
    await bench.begun()
    await bench.join(1)
    await bench.assigned(1)
    await bench.crew.finished()
    assert [h.outcome for h in bench.crew.audit().handlings] == ["ended"]


async def test_a_record_that_waits_for_its_retry_survives_a_rebalance(gather):
    """PC #875: a record was skipped for good when its partition was given away at the wrong moment."""
    bench = await gather()
    await bench.join(0, CHAOS_REST="4")
    await bench.write(("k", 0, {"failures": 1}), ("k", 1), ("other", 2))
    await until(lambda: bench.handled("failed"), 30)
    await bench.join(1, CHAOS_REST="0.1")
    await bench.assigned(1)
    await bench.crew.leave(0)
    await bench.crew.finished()
    assert bench.crew.audit().lost(await bench.crew.places("plain")) == []
    assert list(bench.crew.audit().disordered()) == []
    assert await bench.crew.letters("plain") == []


async def test_a_zombie_does_not_move_the_offsets_of_its_group_back(gather):
    """PC #894: a member that wakes up when the group is empty is believed by the broker, if it names no generation."""
    bench = await gather()
    await bench.join(0)
    await bench.write(*(("k", n, {"pause": 1.0}) for n in range(3)))
    await bench.begun()
    await bench.crew.freeze(0)
    await bench.write(*((f"k{n}", n) for n in range(3, 50)))
    await bench.join(1)
    await bench.crew.finished()
    await bench.crew.leave(1)
    await bench.crew.settle()
    assert await bench.position() == 50
    await bench.crew.thaw(0)
    await until(lambda: bench.assignments(0) == 2, 20)
    await bench.crew.leave(0)
    await bench.crew.settle()
    first = [h.place[2] for h in bench.handled(who=bench.crew.members[0].name)]
    assert max(first, default=0) < 3, "nothing that was finished by another member came again"
    assert await bench.position() == 50


async def test_a_group_whose_offsets_have_expired_goes_on_at_the_first_record_there_is(gather):
    """PC #894 and #409; aiokafka would reset to the end, and say so in one line."""
    bench = await gather()
    await bench.write(*(("k", n) for n in range(10)))
    await bench.join(0)
    await bench.crew.finished()
    await bench.crew.disband()
    await bench.write(*(("k", n) for n in range(10, 20)))
    await bench.delete_before(15)
    await bench.join(0)
    await bench.crew.finished()
    assert [h.place[2] for h in bench.handled()] == [*range(10), *range(15, 20)]


async def test_records_that_expire_under_a_member_are_passed_over_and_counted(gather):
    """The same while it runs: what it holds is handled, what it had not yet read is gone, the rest follows."""
    bench = await gather()
    await bench.join(0, EVENTING_CONSUMER_MAX_RECORDS="4", EVENTING_CONSUMER_MAX_BYTES="2000")
    large = {"pause": 3.0}
    await bench.write(*(("k", n, large) for n in range(2)), *((f"k{n}", n) for n in range(2, 40)))
    await bench.begun()
    await bench.crew.stall(0)
    await bench.write(*(("late", n) for n in range(40, 45)))
    await bench.delete_before(42)
    await bench.crew.heal(0)
    await bench.crew.finished()
    assert {h.place[2] for h in bench.handled()} >= {42, 43, 44}


async def test_memory_is_bounded_while_everything_is_to_be_retried(gather):
    """PC #817 and #832: records that waited for a retry were counted as done with, and the next ones were fetched."""
    bench, most = await gather(), 100
    await bench.write(*((f"k{n}", n, {"failures": 9}) for n in range(2000)))
    await bench.join(0, CHAOS_REST="600", EVENTING_CONSUMER_MAX_RECORDS=str(most))
    await until(lambda: bench.handled("failed"), 30)
    await asyncio.sleep(2)  # ten polls
    consumed = await bench.metric(0, "messaging_client_consumed_messages_total")
    assert 0 < consumed <= most
    assert len(bench.handled("failed")) == consumed, "what was fetched is what was tried"


async def test_records_without_a_key_run_side_by_side_and_one_that_fails_holds_no_other(gather):
    """PC #318: a null key failed, or all of them shared one lane."""
    bench = await gather()
    await bench.write((None, 0, {"failures": 1}), *((None, n, {"pause": 0.5}) for n in range(1, 9)), ("", 9))
    await bench.join(0, CHAOS_REST="3")
    await bench.crew.finished()
    assert [h.place[2] for h in bench.handled()][-1] == 0
    assert len(list(bench.crew.audit().overlapping())) > 1
    assert len(bench.handled()) == 10


async def test_a_key_that_waits_on_one_topic_does_not_wait_on_another(gather):
    """PC #184: the lanes of one key of two topics were one."""
    bench = await gather()
    await bench.write(("k", 0, {"failures": 1}), ("k", 1))
    await bench.write(("k", 0), ("k", 1), kind="owned")
    await bench.join(0, CHAOS_REST="3")
    await bench.crew.finished()
    ends = [h.place[0].rpartition(".")[2] for h in bench.handled()]
    assert ends == ["owned", "owned", "plain", "plain"]


async def test_a_crash_among_transactions_loses_nothing_and_shows_nothing_aborted(gather):
    """PC #329: offsets that no record has, at the head and in the middle of what was unfinished."""
    bench = await gather()
    async with bench.transactional(bench.crew.group) as producer:
        for n in range(6):
            await producer.begin_transaction()
            await bench.write(*((f"k{m}", m, {"pause": 0.3}) for m in range(4)), producer=producer)
            await (producer.abort_transaction() if n % 2 else producer.commit_transaction())
    await bench.write(("last", 0))
    await bench.join(0, EVENTING_CONSUMER_CONCURRENCY="2")
    for _ in range(3):
        await bench.ended(len(bench.handled()) + 1)
        await bench.crew.kill(0)
        await bench.join(0, EVENTING_CONSUMER_CONCURRENCY="2")
    await bench.crew.finished()
    places = await bench.crew.places("plain")
    assert len(places) == 13
    assert bench.crew.audit().lost(places) == []
    assert {h.place for h in bench.crew.audit().handlings} == set(places)


async def test_a_group_is_done_with_a_topic_that_ends_in_a_marker(gather):
    """The last offset is that of the marker: a watermark of delivered records alone never reaches it."""
    bench = await gather()
    async with bench.transactional(bench.crew.group) as producer:
        for end in (producer.commit_transaction, producer.abort_transaction):
            await producer.begin_transaction()
            await bench.write(("k", 0), producer=producer)
            await end()
    await bench.join(0)
    await bench.crew.finished(15)


async def test_offsets_that_compaction_took_away_hold_nothing_up(gather):
    """A tracker that tests offset + 1 stalls at the first gap; a crash in the middle finds its place again."""
    compacted = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    bench = await gather(configs=compacted)
    for n in range(40):
        await bench.write((f"k{n % 4}", n, {"pause": 0.3}), (f"own{n}", n, {"pause": 0.3}))
    await until(lambda: _has_gaps(bench), 30, pause=0.5)
    await bench.join(0, EVENTING_CONSUMER_CONCURRENCY="2")
    await bench.ended(3)
    await bench.crew.kill(0)
    await bench.join(0)
    await bench.crew.finished()
    assert bench.crew.audit().lost(await bench.crew.places("plain")) == []


async def _has_gaps(bench):
    offsets = [offset for _, _, offset in await bench.crew.places("plain")]
    return offsets != list(range(offsets[0], offsets[-1] + 1))


async def test_a_member_that_is_full_still_takes_part_in_a_rebalance(gather):
    """Aiokafka's coordination waits for the application to poll; backpressure must not stop the polls."""
    bench = await gather(partitions=2)
    await bench.join(0, EVENTING_CONSUMER_MAX_RECORDS="2", EVENTING_CONSUMER_DRAIN_TIMEOUT="2")
    for partition in (0, 1):
        await bench.write(*(("k", n, {"pause": 60.0}) for n in range(20)), partition=partition)
    await bench.begun()
    await bench.join(1)
    await bench.assigned(1, 10)


async def test_a_partition_that_is_held_up_leaves_room_for_the_others(gather):
    """What one event holds up counts as held, though it is done: it must not use up what the others need."""
    bench = await gather(partitions=2)
    held = [("held", 0, {"pause": 60.0}), *((f"k{n}", n) for n in range(300))]
    await bench.write(*held, partition=0)
    await bench.join(0, EVENTING_CONSUMER_MAX_RECORDS="100", EVENTING_CONSUMER_DRAIN_TIMEOUT="1")
    await bench.begun(40)
    await asyncio.sleep(1)  # it fetches what it may
    await bench.write(*((f"k{n}", n) for n in range(200)), partition=1)
    await until(lambda: sum(h.place[1] == 1 for h in bench.handled()) == 200, 15)


async def test_a_member_stops_in_time_though_the_broker_is_gone_and_a_dead_letter_is_due(gather, parts):
    """Aiokafka's idempotent sends never expire, and its stop waits for them."""
    bench = await gather()
    await bench.join(0, EVENTING_KAFKA_REQUEST_TIMEOUT="3")
    await bench.write(("k", 0, {"pause": 2.0, "failures": -1}))
    await bench.begun()
    await bench.crew.cut(0)
    await until(lambda: bench.handled("failed"), 10)
    started = time.monotonic()
    await bench.crew.members[0].stop(grace=40)
    assert time.monotonic() - started < 27, "EVENTING_SHUTDOWN_TIMEOUT, and the exit"
    await bench.crew.heal(0)
    await bench.join(1)
    await bench.crew.finished()
    assert len(await bench.crew.letters("plain")) == 1


async def test_a_member_whose_connection_breaks_while_it_leaves_has_left_in_order(gather):
    """Aiokafka's stop passes on the cancellation of a fetch that waits before it tries again."""
    bench = await gather()
    await bench.write(("k", 0))
    await bench.join(0)
    await bench.crew.finished()
    await bench.crew.stall(0)
    await bench.crew.leave(0)
    await asyncio.sleep(2)  # it waits for the answer to its leaving now, and for records
    await bench.crew.cut(0)
    await bench.crew.settle()
    await bench.crew.heal(0)
    assert list(bench.crew.statuses.values()) == [0]


async def test_what_was_finished_ahead_of_the_watermark_does_not_come_again_after_a_graceful_handover(gather):
    """A popular key lags behind the others: all that they finished behind its next event is done, and is known."""
    bench = await gather()
    await bench.write(*(("slow", n, {"pause": 0.5}) for n in range(20)), *((f"k{n}", n) for n in range(100)))
    await bench.join(0)
    await until(lambda: len(bench.handled()) >= 101, 30)
    await bench.crew.leave(0)
    await bench.crew.settle()
    await bench.join(1)
    await bench.crew.finished()
    assert len(list(bench.crew.audit().repeated())) == 0


async def _tried(bench, number, times):
    return await bench.metric(number, "messaging_process_duration_seconds_count") >= times


async def test_a_frozen_member_that_holds_an_event_in_a_transaction_sends_nobody_s_event_to_the_dead_letters(gather):
    """Its inbox row is locked as long as PostgreSQL keeps its session; the event is in order, and has to wait."""
    bench = await gather()
    await bench.write(("k", 0, {"pause": 2.0}), kind="owned")
    await bench.join(0)
    await bench.begun()
    await bench.crew.freeze(0)
    await bench.join(1, EVENTING_DATABASE_TIMEOUT="1", CHAOS_REST="0.1")
    await bench.assigned(1, 30)
    await until(lambda: _tried(bench, 1, 6), 30, pause=0.5)  # more often than an event may fail
    assert await bench.crew.letters("owned") == []
    await bench.crew.thaw(0)
    await bench.crew.finished()
    assert await bench.crew.letters("owned") == []


async def test_a_member_that_is_cut_off_starts_nothing_after_its_session(gather):
    """It can know that the group has gone on without it; whatever it still does is done twice."""
    bench = await gather()
    await bench.write(*(("k", n, {"pause": 0.2}) for n in range(50)))
    await bench.join(0)
    await bench.begun()
    await bench.crew.cut(0)
    await bench.join(1)
    await bench.crew.finished(40)
    audit, who = bench.crew.audit(), bench.crew.members[0].name
    over = audit.faults[0].since + SESSION + 1.5  # it is told so by a clock, a heartbeat apart at most
    assert [h for h in audit.handlings if h.who == who and audit.begun_at(h) > over] == []
