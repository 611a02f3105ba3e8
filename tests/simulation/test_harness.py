"""The harness as a service author uses it: the shipped runtime, a broker in memory, virtual time."""

import asyncio
import time

import pytest
from tenacity import wait_fixed

from eventing import Consumer, Contract, Event, Permanent, Retries, Temporary
from eventing.errors import EventingError, Misconfigured
from eventing.testing import Harness, virtual_time
from eventing.tracing import story


class Ticked(Contract, type="test.harness.ticked.v1", topic="harness-ticks", key="key"):
    key: str
    n: int
    action: str = "ticked"


def ticks(*pairs):
    return [Ticked(key=key, n=n) for key, n in pairs]


@virtual_time
async def test_minutes_of_backoff_take_no_time():
    consumer, attempts = Consumer("g", retries=Retries(5, wait_fixed(60))), []

    @consumer.on(Ticked)
    async def handle(tick: Ticked, event: Event) -> None:
        attempts.append(event.attempt)
        if event.attempt < 5:
            raise Temporary("not yet")

    started = time.monotonic()
    async with Harness(consumer) as harness:
        await harness.publish(*ticks(("a", 1)))
        await harness.settled(seconds=7200)
        assert harness.dead_letters == []
    assert attempts == [1, 2, 3, 4, 5]
    assert time.monotonic() - started < 30


@virtual_time
async def test_what_is_given_up_is_a_dead_letter_and_comes_back_when_it_is_redriven():
    consumer, broken, seen = Consumer("g"), [True], []

    @consumer.on(Ticked)
    async def handle(tick: Ticked, event: Event) -> None:
        if broken:
            raise Permanent("never")
        seen.append((tick.n, event.redrives))

    async with Harness(consumer) as harness:
        await harness.publish(*ticks(("a", 1)))
        await harness.settled()
        [letter] = harness.dead_letters
        assert (letter.disposition, letter.error_type, letter.error) == ("permanent", "Permanent", "never")
        broken.clear()
        assert await harness.redrive() == 1
        await harness.settled()
    assert seen == [(1, 1)]


@virtual_time
async def test_a_crashed_member_is_missed_and_another_goes_on_where_it_was():
    consumer, seen = Consumer("g"), []

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        seen.append(tick.n)

    async with Harness(consumer, members=2) as harness:
        await harness.publish(*ticks(*(("k", n) for n in range(5))))
        await harness.settled()
        for member in harness.members:
            member.crash()
        harness.join()
        await harness.publish(*ticks(*(("k", n) for n in range(5, 9))))
        await harness.settled()
    assert sorted(set(seen)) == list(range(9))


@virtual_time
async def test_what_does_not_finish_is_named():
    consumer = Consumer("g", exhausted="block")

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        raise Permanent("never")

    async with Harness(consumer) as harness:
        await harness.publish(*ticks(("k", 1)))
        with pytest.raises(EventingError, match=r"not finished after 60 s: \{'harness-ticks': 1\}"):
            await harness.settled(seconds=60)


@virtual_time
async def test_a_redrive_sends_each_letter_once_whatever_its_partition():
    consumer, seen = Consumer("g"), []

    @consumer.on(Ticked)
    async def handle(tick: Ticked, event: Event) -> None:
        if not event.redrives:
            raise Permanent("never")
        seen.append((tick.key, tick.n))

    async with Harness(consumer) as harness:
        for partition, key in ((1, "later"), (0, "sooner")):
            value = Ticked(key=key, n=partition).encode()
            await harness.send("harness-ticks", value, key=key.encode(), partition=partition)
            await harness.settled()
            assert await harness.redrive() == 1
        await harness.settled()
    assert seen == [("later", 1), ("sooner", 0)]


@virtual_time
async def test_another_version_of_a_consumer_goes_on_where_the_first_one_stopped():
    first, second, seen = Consumer("g"), Consumer("g"), []

    @first.on(Ticked)
    async def handle_first(tick: Ticked) -> None:
        seen.append(("first", tick.n))

    @second.on(Ticked)
    async def handle_second(tick: Ticked) -> None:
        seen.append(("second", tick.n))

    async with Harness(first) as harness:
        await harness.publish(*ticks(("a", 1)))
        await harness.settled()
    await harness.publish(*ticks(("a", 2)))
    async with Harness(second, broker=harness.broker) as again:
        await again.settled()
    assert seen == [("first", 1), ("second", 2)]


def test_a_setting_that_does_not_exist_is_refused():
    with pytest.raises(Misconfigured, match="consumer_atempts"):
        Harness(Consumer("g"), consumer_atempts=3)


@virtual_time
async def test_the_event_that_is_handled_is_the_cause_of_what_its_handler_adds():
    consumer, causes = Consumer("g"), []

    @consumer.on(Ticked)
    async def handle(tick: Ticked, event: Event) -> None:
        await asyncio.sleep(1 / (tick.n + 1))  # the others run meanwhile
        causes.append((event.id, story()[1]))

    async with Harness(consumer) as harness:
        await harness.publish(*ticks(*((f"k{n}", n) for n in range(10))))
        await harness.settled()
    assert len(causes) == 10
    assert all(own == cause for own, cause in causes)
    assert story() == (None, None)
