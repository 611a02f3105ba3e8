"""The breaker: a flood of dead letters is held back, probed, and let through once something works again."""

import pytest
from tests.contract.desk import Ticked, on_desk

from eventing import Permanent
from eventing.clock import monotonic
from eventing.errors import Unavailable


class Flood:
    """A consumer all of whose events fail until it is repaired."""

    def __init__(self, desk, **options):
        self.consumer, self.broken = desk.consumer(**options), [True]
        self.seen, self.calls = [], []

        @self.consumer.on(Ticked)
        async def handle(tick: Ticked) -> None:
            self.calls.append((tick.n, monotonic()))
            if self.broken:
                raise Permanent("nothing works")
            self.seen.append(tick.n)


def hasten(runtime, desk):
    """Probe as often as this world can wait for; returns the seconds before the first probe."""
    runtime.settlement.breaker._initial = desk.patience / 2
    return desk.patience / 2


@on_desk
async def test_a_flood_is_held_and_said_and_nothing_of_it_is_lost(desk):
    flood = Flood(desk)
    await desk.publish(*((f"k{n}", n) for n in range(30)))
    async with desk.running(flood.consumer, consumer_breaker_row=5) as runtime:
        hasten(runtime, desk)
        await desk.until(lambda: runtime.settlement.breaker.reason)
        with pytest.raises(Unavailable, match="5 records in a row were given up"):
            await runtime.check_handlers()
        assert runtime.alive() is None
        assert len(await desk.buried(4)) < 10
        flood.broken.clear()
        await desk.done(30, 60)
        await runtime.check_handlers()
    assert len(flood.seen) + len(await desk.letters()) == 30
    assert len(flood.seen) > 20


@on_desk
async def test_while_it_is_open_probes_go_on_further_and_further_apart(desk):
    flood = Flood(desk)
    await desk.publish(*((f"k{n}", n) for n in range(30)))
    async with desk.running(flood.consumer, consumer_breaker_row=5) as runtime:
        first = hasten(runtime, desk)
        await desk.buried(4 + 2, 10 * first + 10)
        assert len(await desk.letters()) < 10, "a drip, no flood"
        assert runtime.alive() is None
        flood.broken.clear()
        await desk.done(30, 20 * first + 10)
    assert runtime.settlement.breaker.reason is None


@on_desk
async def test_records_that_arrive_while_it_is_open_wait_too(desk):
    flood = Flood(desk)
    await desk.publish(*((f"k{n}", n) for n in range(5)))
    async with desk.running(flood.consumer, consumer_breaker_row=5) as runtime:
        hasten(runtime, desk)
        await desk.until(lambda: runtime.settlement.breaker.reason)
        await desk.publish(*((f"later{n}", n) for n in range(20)))
        await desk.until(lambda: runtime.lanes.records >= 20)
        assert len(flood.calls) < 10
        flood.broken.clear()
        await desk.done(25, 60)
    assert len(flood.seen) + len(await desk.letters()) == 25
    assert len(flood.seen) > 15


@on_desk
async def test_a_tenth_of_bad_events_is_no_flood(desk):
    flood = Flood(desk)
    flood.broken.clear()
    bad = b"{"
    for n in range(200):
        if n % 10:
            await desk.publish((f"k{n}", n))
        else:
            await desk.send(bad, key=f"bad{n}".encode())
    async with desk.running(flood.consumer) as runtime:
        await desk.until(lambda: len(flood.seen) == 180)
        await desk.buried(20)
        assert runtime.settlement.breaker.reason is None


@on_desk
async def test_events_that_follow_their_parked_key_need_no_probe_of_their_own(desk):
    flood = Flood(desk, exhausted="park_key")
    await desk.publish(*((f"k{n}", n) for n in range(5)), *(("k0", n) for n in range(5, 35)), partition=0)
    async with desk.running(flood.consumer, consumer_breaker_row=5) as runtime:
        first = hasten(runtime, desk)
        letters = await desk.buried(5 + 30, 6 * first + 10)
        assert runtime.settlement.breaker.reason
    followed = [letter.n for letter in letters if letter.disposition == "sequence-parked"]
    assert followed == list(range(5, 35))
