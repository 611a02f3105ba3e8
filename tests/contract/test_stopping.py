"""Leaving: what runs is finished and committed, what waits is left to others, and nobody waits for ever."""

import asyncio

from tests.contract.desk import Ticked, on_desk

from eventing.clock import monotonic


@on_desk
async def test_what_runs_is_finished_what_waits_is_left_and_nothing_comes_twice(desk):
    first, second, running, go = desk.consumer(), desk.consumer(), [], asyncio.Event()
    before, after = [], []

    @first.on(Ticked)
    async def slow(tick: Ticked) -> None:
        running.append(tick.n)
        await go.wait()
        before.append(tick.n)

    @second.on(Ticked)
    async def quick(tick: Ticked) -> None:
        after.append(tick.n)

    await desk.publish(*((f"k{n}", n) for n in range(12)))
    async with desk.running(first, consumer_concurrency=4) as runtime:
        await desk.until(lambda: len(running) == 4 and runtime.lanes.records == 12)
        asyncio.get_running_loop().call_later(0.3, go.set)
    assert sorted(before) == sorted(running)
    assert len(before) == 4
    async with desk.running(second):
        await desk.until(lambda: len(after) == 8)
        await desk.done(12)
    assert sorted(before + after) == list(range(12))


@on_desk
async def test_a_handler_that_does_not_end_is_left_after_the_drain_and_its_event_comes_again(desk):
    first, second, started, seen = desk.consumer(), desk.consumer(), [], []

    @first.on(Ticked)
    async def stuck(tick: Ticked) -> None:
        started.append(tick.n)
        await asyncio.Event().wait()

    @second.on(Ticked)
    async def quick(tick: Ticked) -> None:
        seen.append(tick.n)

    await desk.publish(("k", 1))
    async with desk.running(first, consumer_drain_timeout=1.0):
        await desk.until(lambda: started)
        stopping = monotonic()
    assert 1.0 <= monotonic() - stopping < 8
    assert sum(at for at, _ in (await desk.committed()).values()) == 0
    async with desk.running(second):
        await desk.until(lambda: seen == [1])


@on_desk
async def test_a_stopping_member_starts_nothing_new(desk):
    consumer, calls, go = desk.consumer(), [], asyncio.Event()

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        calls.append(tick.n)
        await go.wait()

    await desk.publish(*((f"k{n}", n) for n in range(10)), partition=0)
    async with desk.running(consumer, consumer_concurrency=1) as runtime:
        await desk.until(lambda: calls and runtime.lanes.records == 10)
        asyncio.get_running_loop().call_later(0.3, go.set)
    assert len(calls) == 1
    assert runtime.state == "stopped"
    await desk.done(1)


@on_desk
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
                await desk.until(lambda second=second: second.state == "consuming")
                await asyncio.sleep(0.3)  # let it work for a while
        await publishing
        await desk.until(lambda: len({n for _, n in seen}) == 600, 30)
    for key in {key for key, _ in seen}:
        first = list(dict.fromkeys(n for k, n in seen if k == key))
        assert first == sorted(first)
    assert len(seen) == 600, "a graceful handover repeats nothing"
