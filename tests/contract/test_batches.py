"""Batch handlers: many events at once, the one at fault found by halving, nobody else harmed."""

import pytest
from tenacity import wait_fixed
from tests.contract.desk import Ticked, Tocked, on_desk
from tests.contract.ledger import Ledger

from eventing import Event, Overload, Permanent, Retries, Temporary, Transaction
from eventing.errors import Misconfigured


@on_desk
async def test_a_batch_has_many_events_and_those_of_a_key_in_order(desk):
    consumer, calls = desk.consumer(), []

    @consumer.on_batch(Ticked, size=50)
    async def handle(ticks: list[Ticked], events: list[Event]) -> None:
        assert [event.offset for event in events if event.partition == 0]
        calls.append([(tick.key, tick.n) for tick in ticks])

    await desk.publish(*((f"k{n % 5}", n) for n in range(200)), partition=0)
    async with desk.running(consumer, consumer_concurrency=2):
        await desk.until(lambda: sum(map(len, calls)) == 200)
    assert max(map(len, calls)) == 50
    seen = [pair for call in calls for pair in call]
    for key in {key for key, _ in seen}:
        assert [n for k, n in seen if k == key] == [n for n in range(200) if f"k{n % 5}" == key]
    await desk.done(200)


@on_desk
async def test_the_event_at_fault_is_found_and_its_neighbours_are_unharmed(desk):
    consumer, effects, calls = desk.consumer(), [], []

    @consumer.on_batch(Ticked)
    async def handle(ticks: list[Ticked]) -> None:
        calls.append(len(ticks))
        if any(tick.n == 13 for tick in ticks):
            raise Permanent("thirteen")
        effects.extend(tick.n for tick in ticks)

    await desk.publish(*((f"k{n}", n) for n in range(32)), partition=0)
    async with desk.running(consumer):
        [letter] = await desk.buried(1)
        await desk.until(lambda: len(effects) == 31)
    assert letter.n == 13
    assert sorted(effects) == [n for n in range(32) if n != 13]
    assert len(calls) < 20, "halved, not one by one"


@on_desk
async def test_a_temporary_failure_in_a_batch_keeps_the_order_of_its_key(desk):
    consumer, seen, attempts = desk.consumer(retries=Retries(5, wait_fixed(0.1))), [], []

    @consumer.on_batch(Ticked)
    async def handle(ticks: list[Ticked], events: list[Event]) -> None:
        for tick, event in zip(ticks, events, strict=True):
            if (tick.key, tick.n) == ("bad", 1) and event.attempt < 3:
                attempts.append(event.attempt) if len(ticks) == 1 else None
                raise Temporary("not now")
        seen.extend((tick.key, tick.n) for tick in ticks)

    await desk.publish(*((key, n) for n in range(4) for key in ("good", "bad")), partition=0)
    async with desk.running(consumer):
        await desk.until(lambda: len(seen) == 8)
    assert [n for key, n in seen if key == "bad"] == [0, 1, 2, 3]
    assert [n for key, n in seen if key == "good"] == [0, 1, 2, 3]
    assert attempts == [1, 2]
    assert await desk.letters() == []


@on_desk
async def test_an_overload_holds_a_whole_batch_and_counts_no_attempt(desk):
    consumer, down, seen = desk.consumer(), [3], []

    @consumer.on_batch(Ticked)
    async def handle(ticks: list[Ticked], events: list[Event]) -> None:
        if down[0]:
            down[0] -= 1
            raise Overload("the server is away")
        seen.extend((event.attempt, tick.n) for tick, event in zip(ticks, events, strict=True))

    await desk.publish(*(("k", n) for n in range(10)))
    async with desk.running(consumer):
        await desk.until(lambda: len(seen) == 10)
    assert seen == [(1, n) for n in range(10)]


@on_desk
async def test_a_batch_may_have_several_contracts(desk):
    consumer, seen = desk.consumer(), []

    @consumer.on_batch(Ticked, Tocked)
    async def handle(found: list[Ticked | Tocked]) -> None:
        seen.extend((type(one), one.n) for one in found)

    await desk.publish(("k", 1))
    await desk.publish(("k", 2), action="tocked", topic=desk.other)
    async with desk.running(consumer):
        await desk.until(lambda: len(seen) == 2)
    assert set(seen) == {(Ticked, 1), (Tocked, 2)}


@on_desk
async def test_a_sync_batch_handler_of_plain_events_runs_in_a_thread(desk):
    consumer, seen = desk.consumer(topics=(desk.topic,)), []

    @consumer.on_batch()
    def handle(events: list[Event]) -> None:
        seen.extend(event.json()["n"] for event in events)

    await desk.publish(*(("k", n) for n in range(20)))
    async with desk.running(consumer):
        await desk.until(lambda: len(seen) == 20)
    assert seen == list(range(20))


@on_desk
async def test_an_unreadable_record_in_a_batch_is_dead_lettered_alone(desk):
    consumer, seen = desk.consumer(), []

    @consumer.on_batch(Ticked)
    async def handle(ticks: list[Ticked]) -> None:
        seen.extend(tick.n for tick in ticks)

    await desk.publish(("k", 1), partition=0)
    await desk.send(b"{", key=b"k", partition=0)
    await desk.publish(("k", 2), partition=0)
    async with desk.running(consumer):
        await desk.until(lambda: seen == [1, 2])
    [letter] = await desk.letters()
    assert (letter.disposition, letter.record.value) == ("undecodable", b"{")


@on_desk
async def test_later_events_of_a_parked_key_follow_it_out_of_a_batch(desk):
    consumer, seen, broken = desk.consumer(exhausted="park_key"), [], [True]

    @consumer.on_batch(Ticked)
    async def handle(ticks: list[Ticked]) -> None:
        if broken and any((tick.key, tick.n) == ("bad", 1) for tick in ticks):
            raise Permanent("not yet repaired")
        seen.extend((tick.key, tick.n) for tick in ticks)

    await desk.publish(*((key, n) for n in range(4) for key in ("good", "bad")), partition=0)
    async with desk.running(consumer):
        letters = await desk.buried(3)
        await desk.until(lambda: len(seen) == 5)
        broken.clear()
        await desk.redrive()
        await desk.until(lambda: len(seen) == 8)
    assert [(letter.n, letter.disposition) for letter in letters] == [
        (1, "permanent"), (2, "sequence-parked"), (3, "sequence-parked")
    ]  # fmt: skip
    assert [n for key, n in seen if key == "bad"] == [0, 1, 2, 3]


@on_desk
async def test_a_batch_is_one_transaction_and_each_event_has_one_effect(kafka):
    consumer = kafka.consumer()
    async with Ledger(kafka) as ledger:

        @consumer.on_batch(Ticked, size=100)
        async def handle(ticks: list[Ticked], tx: Transaction) -> None:
            await ledger.add(tx, ticks)

        ticks = [("k", n) for n in range(20)]
        await kafka.publish(*ticks, *ticks[:5], ("k", 20), partition=0)  # some of them twice
        async with kafka.running(consumer):
            await ledger.has(21)
            await kafka.done(26)
            await kafka.publish(*ticks[5:10], partition=0)  # and once more, in another batch
            await kafka.done(31)
        rows = await ledger.rows()
    assert sorted(row["n"] for row in rows) == list(range(21))
    assert len({row["xid"] for row in rows}) <= 3
    assert await kafka.letters() == []


@on_desk
async def test_nothing_remains_of_a_batch_that_failed_but_its_healthy_events(kafka):
    consumer = kafka.consumer()
    async with Ledger(kafka) as ledger:

        @consumer.on_batch(Ticked, size=100)
        async def handle(ticks: list[Ticked], tx: Transaction) -> None:
            await ledger.add(tx, ticks)
            if any(tick.n == 7 for tick in ticks):
                await tx.execute("INSERT INTO effects VALUES (1 / 0)")

        await kafka.publish(*((f"k{n % 4}", n) for n in range(16)), partition=0)
        async with kafka.running(consumer):
            [letter] = await kafka.buried(1)
            await ledger.has(15)
        rows = await ledger.rows()
    assert letter.n == 7
    assert sorted(row["n"] for row in rows) == [n for n in range(16) if n != 7]


def test_a_batch_handler_that_takes_one_event_is_refused_with_the_remedy(memory):
    with pytest.raises(Misconfigured, match=r"list\[Ticked\]"):

        @memory.consumer().on_batch(Ticked)
        async def handle(tick: Ticked) -> None: ...
