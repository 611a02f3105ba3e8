"""The consumer runtime on a real broker and a real database."""

import asyncio
import json
import threading
import time
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from tenacity import wait_fixed

from eventing import Consumer, Contract, Database, Event, Overload, Permanent, Retries, Temporary, Transaction
from eventing.dead_letter import redrive_topic_of, topic_of
from eventing.dead_letter_queue import DeadLetterQueue
from eventing.errors import Misconfigured
from eventing.letter_filter import Filter
from eventing.migrate import migrate
from eventing.producer import Producer
from eventing.provide import provide
from eventing.redrive import Redrive, plan
from eventing.runtime import Runtime
from eventing.settings import Settings
from workbench.records import read_topic
from workbench.topics import ensure_topics

QUICK = Retries(attempts=3, wait=wait_fixed(0.05))


class Ticked(Contract, type="test.ticked.v1", topic="ticks", key="key"):
    key: str
    n: int
    action: str = "ticked"


class Desk:
    """One topic, its group's topics, and what a test does with them."""

    def __init__(self, topic, broker, settings):
        self.topic, self.broker, self.settings = topic, broker, settings
        self.group = f"{topic}-group"
        self.dlq = topic_of(topic, self.group)

    def consumer(self, **options):
        return Consumer(self.group, **{"retries": QUICK} | options)

    async def publish(self, *ticks, partition=None):
        async with Producer(self.settings) as producer:
            for key, n in ticks:
                body = json.dumps({"key": key, "n": n, "action": "ticked"}).encode()
                known = [("ce_specversion", b"1.0"), ("ce_id", f"{key}-{n}".encode()), ("ce_source", b"/test")]
                known += [("ce_type", b"test.ticked.v1"), ("ce_partitionkey", key.encode())]
                await producer.send(self.topic, body, key=key.encode(), headers=known, partition=partition)

    @asynccontextmanager
    async def running(self, consumer, **settings):
        config = self.settings.model_copy(update=settings)
        stop = asyncio.Event()
        async with Producer(config) as producer, provide(consumer, config) as provided:
            runtime = Runtime(consumer, config, producer, provided)
            task = asyncio.create_task(runtime.run(stop))
            try:
                yield runtime
            finally:
                stop.set()
                await task

    async def committed(self):
        reader = AIOKafkaConsumer(bootstrap_servers=self.broker.bootstrap, group_id=self.group)
        async with reader:
            places = [TopicPartition(self.topic, n) for n in range(2)]
            return sum([await reader.committed(tp) or 0 for tp in places])

    async def letters(self):
        async with DeadLetterQueue.open(self.dlq, self.settings) as queue:
            return [letter async for letter in queue.letters()]


@pytest.fixture
async def desk(broker, topic_name, database, monkeypatch):
    topic = topic_name("ticks")
    monkeypatch.setattr(Ticked, "event_topic", topic)
    url = await database()
    await migrate(url)
    settings = Settings(kafka_bootstrap=broker.bootstrap, database_url=url, consumer_session_timeout=6)
    desk = Desk(topic, broker, settings)
    await ensure_topics(broker.bootstrap, dict.fromkeys([topic, desk.dlq, redrive_topic_of(topic, desk.group)], 2))
    return desk


async def until(condition, seconds=15):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_events_of_a_key_are_handled_in_order_and_keys_side_by_side(desk):
    consumer, seen, running, most = desk.consumer(), [], set(), []

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        assert tick.key not in running
        running.add(tick.key)
        most.append(len(running))
        await asyncio.sleep(0.01)
        running.discard(tick.key)
        seen.append((tick.key, tick.n))

    await desk.publish(*((f"k{n % 10}", n) for n in range(100)))
    async with desk.running(consumer):
        await until(lambda: len(seen) == 100)
    for key in {key for key, _ in seen}:
        assert [n for k, n in seen if k == key] == [n for n in range(100) if f"k{n % 10}" == key]
    assert max(most) > 2, "more keys at once than there are partitions"
    assert await desk.committed() == 100


async def test_a_retry_blocks_its_own_key_only(desk):
    consumer, seen, failed = desk.consumer(retries=Retries(3, wait_fixed(0.5))), [], []

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        if tick.key == "bad" and not failed:
            failed.append(tick.n)
            raise Temporary("not now")
        seen.append((tick.key, tick.n))

    await desk.publish(("bad", 1), ("bad", 2), ("good", 1), partition=0)
    async with desk.running(consumer):
        await until(lambda: len(seen) == 3)
    assert seen == [("good", 1), ("bad", 1), ("bad", 2)]


async def test_an_event_that_keeps_failing_is_dead_lettered_as_it_came_and_the_next_one_flows(desk):
    consumer, attempts, seen = desk.consumer(), [], []

    @consumer.on(Ticked)
    async def handle(tick: Ticked, event: Event) -> None:
        if tick.n == 1:
            attempts.append(event.attempt)
            raise ValueError("a bug of ours")
        seen.append(tick.n)

    await desk.publish(("k", 1), ("k", 2))
    async with desk.running(consumer):
        await until(lambda: seen == [2])
    letter = (await desk.letters())[0]
    source = next(r for r in await read_topic(desk.broker.bootstrap, desk.topic) if b'"n": 1' in r.value)
    assert attempts == [1, 2, 3]
    assert (letter.record.key, letter.record.value) == (source.key, source.value)
    assert set(source.headers) <= set(letter.record.headers)
    known = letter.known
    assert (known["x-disposition"], known["x-attempt"], known["x-error-type"]) == ("exhausted", "3", "ValueError")
    assert "a bug of ours" in known["x-error-message"]
    assert "test_consumer.py" in known["x-error-stack"]
    assert known["x-origin-topic"] == desk.topic


async def test_an_event_that_can_never_work_is_tried_once(desk):
    consumer, attempts = desk.consumer(), []

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        attempts.append(tick.n)
        raise Permanent("never")

    await desk.publish(("k", 1))
    async with desk.running(consumer):
        while not await desk.letters():
            await asyncio.sleep(0.05)
    assert attempts == [1]


async def test_a_redriven_event_reaches_its_group_once_and_no_letter_waits(desk):
    consumer, seen, broken = desk.consumer(), [], [True]

    @consumer.on(Ticked)
    async def handle(tick: Ticked, event: Event) -> None:
        if broken:
            raise Permanent("not yet repaired")
        seen.append((tick.n, event.redrives, event.offset))

    await desk.publish(("k", 1), ("k", 2))
    async with desk.running(consumer):
        while len(await desk.letters()) < 2:
            await asyncio.sleep(0.05)
        broken.clear()
        async with Producer(desk.settings) as producer:
            async with DeadLetterQueue.open(desk.dlq, desk.settings) as queue:
                await Redrive(queue, producer).run(await plan(queue, Filter(headers={"ce_id": "k-2"})))
            assert [json.loads(letter.record.value)["n"] for letter in await desk.letters()] == [1]
            async with DeadLetterQueue.open(desk.dlq, desk.settings) as queue:
                await Redrive(queue, producer).run(await plan(queue, Filter()))
        await until(lambda: len(seen) == 2)
    assert [(n, redrives) for n, redrives, _ in seen] == [(2, 1), (1, 1)]
    assert await desk.letters() == []


async def test_an_effect_in_the_database_happens_once_per_event(desk):
    consumer = desk.consumer()

    @consumer.on(Ticked)
    async def handle(tick: Ticked, tx: Transaction) -> None:
        await tx.execute("INSERT INTO effects VALUES ($1, $2)", tick.key, tick.n)

    async with Database(desk.settings.database_url) as db:
        await db.execute("CREATE TABLE effects (key text, n int)")
        await desk.publish(*(("k", n) for n in range(5)), *(("k", n) for n in range(6)))
        async with desk.running(consumer):
            async with asyncio.timeout(15):
                while len(await db.fetch("SELECT FROM effects")) < 6:
                    await asyncio.sleep(0.02)
        assert [row["n"] for row in await db.fetch("SELECT n FROM effects")] == list(range(6))


async def test_a_failed_handler_leaves_no_inbox_row(desk):
    consumer, failed = desk.consumer(), []

    @consumer.on(Ticked)
    async def handle(tick: Ticked, tx: Transaction) -> None:
        if not failed:
            failed.append(tick)
            raise Temporary("again")

    async with Database(desk.settings.database_url) as db:
        await desk.publish(("k", 1))
        async with desk.running(consumer):
            async with asyncio.timeout(15):
                while not await db.fetch("SELECT FROM eventing.inbox"):
                    await asyncio.sleep(0.02)
    assert failed
    assert await desk.letters() == []


async def test_a_sync_handler_runs_in_a_thread(desk):
    consumer, threads = desk.consumer(), []

    @consumer.on(Ticked)
    def handle(tick: Ticked) -> None:
        time.sleep(0.01)
        threads.append(threading.current_thread() is threading.main_thread())

    await desk.publish(("a", 1), ("b", 1))
    async with desk.running(consumer):
        await until(lambda: len(threads) == 2)
    assert threads == [False, False]


async def test_an_overload_holds_everybody_and_counts_no_attempt(desk):
    consumer, calls, seen, down = desk.consumer(), [], [], [True]

    @consumer.on(Ticked)
    async def handle(tick: Ticked, event: Event) -> None:
        calls.append(tick.n)
        if down:
            raise Overload("the server is away")
        seen.append(event.attempt)

    await desk.publish(*((f"k{n}", n) for n in range(50)))
    async with desk.running(consumer) as runtime:
        await until(lambda: len(calls) >= 3)  # one tries for all, again and again
        assert runtime.settlement.gate.reason == "the server is away"
        assert len(calls) < 10
        down.clear()
        await until(lambda: len(seen) == 50)
    assert set(seen) == {1}
    assert await desk.letters() == []


async def test_members_that_come_and_go_lose_nothing_and_keep_order(desk):
    seen = []

    def member():
        consumer = desk.consumer()

        @consumer.on(Ticked)
        async def handle(tick: Ticked) -> None:
            await asyncio.sleep(0.005)
            seen.append((tick.key, tick.n))

        return consumer

    async def publish():
        await desk.publish(*((f"k{n % 20}", n) for n in range(600)))

    async with desk.running(member()):
        publishing = asyncio.create_task(publish())
        for _ in range(3):
            async with desk.running(member()) as second:
                await until(lambda second=second: second.state == "consuming", 20)
                await asyncio.sleep(0.3)  # let it work for a while
        await publishing
        await until(lambda: len({n for _, n in seen}) == 600, 30)
    for key in {key for key, _ in seen}:
        first = list(dict.fromkeys(n for k, n in seen if k == key))
        assert first == sorted(first)
    assert len(seen) == 600, "a graceful handover repeats nothing"


async def test_memory_is_bounded_while_a_handler_stalls(desk):
    consumer, go = desk.consumer(), asyncio.Event()

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        await go.wait()

    await desk.publish(*((f"k{n}", n) for n in range(300)))
    async with desk.running(consumer, consumer_max_records=50) as runtime:
        await until(lambda: runtime.lanes.records >= 50)
        await asyncio.sleep(0.5)  # several polls
        assert runtime.lanes.records <= 50
        go.set()
        await until(lambda: sum(p.watermark for p in runtime.lanes.partitions.values()) == 300)


async def test_a_handler_that_wants_what_nobody_provides_is_refused_at_start(broker):
    consumer = Consumer("g")

    class Thing: ...

    @consumer.on(Ticked)
    async def handle(tick: Ticked, thing: Thing) -> None: ...

    async def start():
        async with provide(consumer, Settings()):
            pass

    with pytest.raises(Misconfigured, match="wants a Thing"):
        await start()
