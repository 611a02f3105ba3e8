"""Alive is who makes progress, or waits on purpose; who silently stopped is not."""

import asyncio

import pytest
from tests.contract.desk import Ticked, on_desk

from eventing import Overload, Permanent, Temporary
from eventing.clock import monotonic
from eventing.testing.member import MemoryClient

LONG = 600.0  # seconds, well beyond every limit


@on_desk
async def test_a_client_that_returns_nothing_although_records_wait_is_dead(memory, monkeypatch):
    consumer, seen = memory.consumer(), []

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        seen.append(tick.n)

    async def nothing(self, places, *, limit, seconds):
        await asyncio.sleep(seconds)
        return {}

    async with memory.running(consumer) as runtime:
        await memory.publish(("k", 1))
        await memory.until(lambda: seen)
        monkeypatch.setattr(MemoryClient, "poll", nothing)
        await asyncio.sleep(LONG)
        assert runtime.alive() is None, "nothing waits for it"
        await memory.publish(("k", 2))
        started = monotonic()
        reason = await memory.until(runtime.alive, LONG)
        assert "records wait, and nothing has happened" in reason
        assert 120 < monotonic() - started < 150


@on_desk
async def test_a_poll_that_never_returns_is_dead(memory, monkeypatch):
    consumer = memory.consumer()

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None: ...

    never = asyncio.Event()

    async def hang(self, places, *, limit, seconds):
        await never.wait()
        return {}

    async with memory.running(consumer) as runtime:
        await memory.until(lambda: runtime.state == "consuming")
        with monkeypatch.context() as patched:
            patched.setattr(MemoryClient, "poll", hang)
            await asyncio.sleep(LONG)
            reason = runtime.alive() or "alive"
        never.set()
        assert "the poll loop has been silent" in reason
        await memory.until(lambda: runtime.alive() is None)


@on_desk
async def test_a_rebalance_that_never_ends_is_dead_while_the_broker_answers(memory):
    first, second = memory.consumer(), memory.consumer()
    for consumer in (first, second):

        @consumer.on(Ticked)
        async def handle(tick: Ticked) -> None: ...

    async with memory.running(first) as runtime:
        await memory.until(lambda: runtime.state == "consuming")
        silent = object()  # a member that joins and is never ready
        memory.broker.group(memory.group).join(silent, [memory.topic])
        started = monotonic()
        reason = await memory.until(runtime.alive, LONG)
        assert "rejoining its group" in reason
        assert 120 < monotonic() - started < 150
        memory.broker.group(memory.group).leave(silent)
        await memory.until(lambda: runtime.alive() is None)


@on_desk
async def test_a_long_rebalance_that_has_ended_is_not_held_against_it(memory, monkeypatch):
    consumer = memory.consumer()

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None: ...

    starts, poll = MemoryClient.starts, MemoryClient.poll

    async def slow(self, places, latest):
        await asyncio.sleep(5)
        return await starts(self, places, latest)

    async def patient(self, places, *, limit, seconds):
        await self._rejoined.wait()  # as aiokafka does
        return await poll(self, places, limit=limit, seconds=seconds)

    dead = []
    async with memory.running(consumer) as runtime:
        await memory.until(lambda: runtime.state == "consuming")
        monkeypatch.setattr(MemoryClient, "starts", slow)
        monkeypatch.setattr(MemoryClient, "poll", patient)
        silent = object()
        memory.broker.group(memory.group).join(silent, [memory.topic])
        await asyncio.sleep(60)
        dead.append(runtime.alive())
        memory.broker.group(memory.group).leave(silent)
        for _ in range(100):
            await asyncio.sleep(0.2)
            dead.append(runtime.alive())
    assert set(dead) == {None}


def always(error):
    async def handle(tick: Ticked) -> None:
        raise error

    return handle


WAITING = {
    "overload": ({}, Overload("the server is away")),
    "block": ({"exhausted": "block"}, Permanent("not yet repaired")),
    "backoff": ({}, Temporary("not now", delay=400)),
}


@pytest.mark.parametrize("case", WAITING)
@on_desk
async def test_who_waits_on_purpose_is_alive(memory, case):
    options, error = WAITING[case]
    consumer = memory.consumer(**options)
    consumer.on(Ticked)(always(error))
    await memory.publish(("k", 1), ("k", 2))
    async with memory.running(consumer) as runtime:
        await stays_alive(memory, runtime)


@on_desk
async def test_who_cannot_write_its_dead_letters_is_alive(memory):
    consumer = memory.consumer()
    consumer.on(Ticked)(always(Permanent("never")))
    memory.withheld.add(memory.dlq)
    await memory.publish(("k", 1), ("k", 2))
    async with memory.running(consumer) as runtime:
        await stays_alive(memory, runtime)


@on_desk
async def test_who_holds_back_a_flood_is_alive(memory):
    consumer = memory.consumer()
    consumer.on(Ticked)(always(Permanent("never")))
    await memory.publish(*((f"k{n}", n) for n in range(100)))
    async with memory.running(consumer) as runtime:
        runtime.settlement.breaker._initial = runtime.settlement.breaker._maximum = LONG / 2  # no probe moves anything
        await memory.until(lambda: runtime.settlement.breaker.reason)
        await stays_alive(memory, runtime)


async def stays_alive(desk, runtime):
    until = monotonic() + LONG
    while monotonic() < until:
        assert runtime.alive() is None
        await asyncio.sleep(1)


@on_desk
async def test_a_handler_that_takes_its_time_is_alive(memory):
    consumer, go = memory.consumer(), asyncio.Event()

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        await go.wait()

    await memory.publish(("k", 1), ("k", 2))
    async with memory.running(consumer) as runtime:
        await stays_alive(memory, runtime)
        go.set()
        await memory.done(2)
