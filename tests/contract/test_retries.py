"""The failure ladder: what is tried again, when, and how often, whoever tries."""

from itertools import pairwise

import pytest
from tenacity import wait_chain, wait_fixed
from tests.contract.desk import Ticked, on_desk

from eventing import Event, Overload, Permanent, Retries, Temporary
from eventing.clock import monotonic


def failing(consumer, error, attempts):
    """Register a handler that notes its attempts, and fails with what `error` returns."""

    @consumer.on(Ticked)
    async def handle(tick: Ticked, event: Event) -> None:
        attempts.append((event.attempt, monotonic()))
        raise error(event)


@on_desk
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
        await desk.until(lambda: len(seen) == 3)
    assert seen == [("good", 1), ("bad", 1), ("bad", 2)]


@on_desk
async def test_an_event_that_can_never_work_is_tried_once(desk):
    consumer, attempts = desk.consumer(), []
    failing(consumer, lambda _: Permanent("never"), attempts)
    await desk.publish(("k", 1))
    async with desk.running(consumer):
        [letter] = await desk.buried(1)
    assert [attempt for attempt, _ in attempts] == [1]
    assert letter.disposition == "permanent"


@on_desk
async def test_a_handler_may_ask_for_its_own_delay(desk):
    consumer, attempts = desk.consumer(retries=Retries(2, wait_fixed(600))), []
    failing(consumer, lambda _: Temporary("busy", delay=0.4), attempts)
    await desk.publish(("k", 1))
    async with desk.running(consumer):
        await desk.buried(1)
    [(_, first), (_, second)] = attempts
    assert 0.4 <= second - first < 10


@on_desk
async def test_waits_are_those_of_tenacity(desk):
    waits = wait_chain(wait_fixed(0.1), wait_fixed(0.6), wait_fixed(0.2))
    consumer, attempts = desk.consumer(retries=Retries(4, waits)), []
    failing(consumer, lambda _: ValueError("a bug of ours"), attempts)
    await desk.publish(("k", 1))
    async with desk.running(consumer):
        await desk.buried(1)
    assert [attempt for attempt, _ in attempts] == [1, 2, 3, 4]
    times = [at for _, at in attempts]
    gaps = [after - before for before, after in pairwise(times)]
    assert [round(gap, 1) >= wait for gap, wait in zip(gaps, (0.1, 0.6, 0.2), strict=True)] == [True] * 3


@on_desk
async def test_attempts_are_counted_on_after_a_restart(desk):
    patient = Retries(4, wait_chain(wait_fixed(0.05), wait_fixed(600)))
    before, after = [], []
    first, second = desk.consumer(retries=patient), desk.consumer(retries=patient)
    failing(first, lambda _: ValueError("a bug of ours"), before)
    failing(second, lambda event: Permanent("never") if event.attempt == 3 else ValueError("too early"), after)
    await desk.publish(("other", 0), ("k", 1), partition=0)
    async with desk.running(first):
        await desk.until(lambda: len(before) == 4)
    offset, note = (await desk.committed())[desk.topic, 0]
    assert (offset, note.startswith("v1:0=2,1=2")) == (0, True)
    async with desk.running(second):
        letters = await desk.buried(2)
    assert [attempt for attempt, _ in after] == [3, 3]
    assert [letter.known["x-attempt"] for letter in letters] == ["3", "3"]


@on_desk
async def test_attempts_are_counted_on_over_a_rebalance(desk):
    patient = Retries(3, wait_chain(wait_fixed(0.05), wait_fixed(600)))
    attempts, members = [], [desk.consumer(retries=patient) for _ in range(2)]
    for member in members:
        failing(member, lambda _: ValueError("a bug of ours"), attempts)
    await desk.publish(("a", 0), partition=0)
    await desk.publish(("b", 0), partition=1)
    async with desk.running(members[0]):
        await desk.until(lambda: len(attempts) == 4)
        async with desk.running(members[1]):
            letters = await desk.buried(2)
    assert sorted(attempt for attempt, _ in attempts) == [1, 1, 2, 2, 3, 3]
    assert {letter.known["x-attempt"] for letter in letters} == {"3"}


@on_desk
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
        await desk.until(lambda: len(calls) >= 3)  # one tries for all, again and again
        assert runtime.settlement.gate.reason == "the server is away"
        with pytest.raises(Overload, match="the server is away"):
            await runtime.check_handlers()
        assert runtime.alive() is None
        assert len(calls) < 10
        down.clear()
        await desk.until(lambda: len(seen) == 50)
        await runtime.check_handlers()
    assert set(seen) == {1}
    assert await desk.letters() == []
