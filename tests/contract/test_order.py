"""Order per key, and concurrency beyond the partitions."""

import asyncio

from tests.contract.desk import Ticked, Tocked, on_desk

from eventing import Event, Temporary


@on_desk
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
        await desk.until(lambda: len(seen) == 100)
    for key in {key for key, _ in seen}:
        assert [n for k, n in seen if k == key] == [n for n in range(100) if f"k{n % 10}" == key]
    assert max(most) > 2, "more keys at once than there are partitions"
    await desk.done(100)


async def meeting(desk, consumer, together, *ticks):
    """Handle events that all have to be under way at once."""
    barrier, seen = asyncio.Barrier(together), []

    @consumer.on(Ticked)
    async def handle(tick: Ticked, event: Event) -> None:
        async with asyncio.timeout(10):
            await barrier.wait()
        seen.append(event.offset)

    await desk.publish(*ticks, partition=0)
    async with desk.running(consumer):
        await desk.until(lambda: len(seen) == len(ticks))
    assert await desk.letters() == []


@on_desk
async def test_events_without_a_key_run_side_by_side(desk):
    await meeting(desk, desk.consumer(), 5, *((None, n) for n in range(5)))


@on_desk
async def test_without_an_order_events_of_one_key_run_side_by_side(desk):
    await meeting(desk, desk.consumer(ordering="none"), 5, *(("k", n) for n in range(5)))


@on_desk
async def test_an_empty_key_is_a_key(desk):
    consumer, seen = desk.consumer(), []

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        if tick.n == 0 and not seen:
            seen.append("first attempt")
            raise Temporary("not now")
        seen.append(tick.n)

    await desk.publish(("", 0), ("", 1), ("", 2), partition=0)
    async with desk.running(consumer):
        await desk.until(lambda: len(seen) == 4)
    assert seen == ["first attempt", 0, 1, 2]


@on_desk
async def test_a_key_in_two_topics_is_two_keys(desk):
    consumer, go, seen = desk.consumer(), asyncio.Event(), []

    @consumer.on(Ticked)
    async def tick(tick: Ticked) -> None:
        await go.wait()
        seen.append("tick")

    @consumer.on(Tocked)
    async def tock(tock: Tocked) -> None:
        seen.append("tock")
        go.set()

    await desk.publish(("k", 1), partition=0)
    await desk.publish(("k", 1), action="tocked", topic=desk.other, partition=0)
    async with desk.running(consumer):
        await desk.until(lambda: len(seen) == 2)
    assert seen == ["tock", "tick"]
