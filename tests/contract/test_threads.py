"""Sync handlers: in threads, many at once, with what surrounds an event."""

import asyncio
import functools
import threading

import pytest
from tests.contract.desk import Ticked, on_desk

from eventing import Consumer, Event, Transaction, tracing
from eventing.errors import Misconfigured

MANY = 16  # asyncio's own pool has 6 threads on 2 cores


@on_desk
async def test_many_sync_handlers_run_at_once_and_none_in_the_loop(desk):
    consumer, together, threads = desk.consumer(), threading.Barrier(MANY), []

    @consumer.on(Ticked)
    def handle(tick: Ticked) -> None:
        together.wait(10)
        threads.append(threading.current_thread())

    await desk.publish(*((f"k{n}", n) for n in range(MANY)))
    async with desk.running(consumer):
        await desk.until(lambda: len(threads) == MANY)
    assert threading.main_thread() not in threads
    assert await desk.letters() == []


@on_desk
async def test_a_thread_knows_the_event_it_handles(desk):
    consumer, stories = desk.consumer(), []

    @consumer.on(Ticked)
    def handle(tick: Ticked, event: Event) -> None:
        stories.append((event.id, tracing.story()[1]))

    await desk.publish(*((f"k{n}", n) for n in range(5)))
    async with desk.running(consumer):
        await desk.until(lambda: len(stories) == 5)
    assert {caused for _, caused in stories} == {f"k{n}-{n}" for n in range(5)}
    assert all(event_id == caused for event_id, caused in stories)


@on_desk
async def test_a_sync_handler_fails_like_any_other(desk):
    consumer, attempts = desk.consumer(), []

    @consumer.on(Ticked)
    def handle(tick: Ticked, event: Event) -> None:
        attempts.append(event.attempt)
        raise ValueError("a bug of ours")

    await desk.publish(("k", 1))
    async with desk.running(consumer):
        [letter] = await desk.buried(1)
    assert attempts == [1, 2, 3]
    assert letter.known["x-error-type"] == "ValueError"


def test_a_sync_handler_that_takes_a_transaction_is_refused():
    with pytest.raises(Misconfigured, match=r"handle: tx is a Transaction, which only an `async def` can use"):

        @Consumer("g").on(Ticked)
        def handle(tick: Ticked, tx: Transaction) -> None: ...


@on_desk
async def test_a_plain_decorator_around_an_async_handler_is_awaited(desk):
    consumer, seen = desk.consumer(), []

    async def handle(tick: Ticked) -> None:
        await asyncio.sleep(0)
        seen.append(tick.n)

    @functools.wraps(handle)
    def wrapped(tick):
        return handle(tick)

    consumer.on(Ticked)(wrapped)
    await desk.publish(("k", 1))
    async with desk.running(consumer):
        await desk.until(lambda: seen)
    assert seen == [1]
    assert await desk.letters() == []
