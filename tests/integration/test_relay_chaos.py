"""Relays come, go, die and freeze while writers write; then the topic itself is compared with what was committed.

`--chaos-minutes 30` runs the storm that long instead of half a minute, `--chaos-seed` repeats one.
"""

import asyncio
import time
from collections import Counter
from itertools import cycle, product

import pytest
from tests.integration.relay_audit import Event, audit
from tests.integration.relay_rig import LEASE, Yard

from workbench.home import Home

SHORT = 30.0  # seconds of a storm without --chaos-minutes
CALM = 8.0
RELAYS = (2, 4)  # healthy ones, at least and at most
PARTS_EVERY = 9.0  # seconds between two restarts of Kafka or PostgreSQL


class Storm:
    """Does something to the parts every second."""

    def __init__(self, yard):
        self._yard, self._dice = yard, yard.dice
        self.done = Counter()
        self._thaw = {}  # relay: when it may go on
        self._part_at = time.monotonic() + PARTS_EVERY / 2
        self._restarts = cycle(product(("stop", "kill"), (yard.broker, yard.postgres)))

    async def blow(self, seconds):
        """Blow for so long, then heal everything."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            step = asyncio.create_task(asyncio.sleep(1.0))
            await self._once()
            await step
        await self._thawed(time.monotonic() + 3600)

    async def _once(self):
        yard = self._yard
        await yard.hand_over()
        await self._thawed(time.monotonic())
        await self._relay(self._dice.choice(("kill", "freeze", "leave", "none")))
        if time.monotonic() > self._part_at:
            self._part_at = time.monotonic() + PARTS_EVERY
            await self._restart(*next(self._restarts))
        await yard.repair()

    async def _relay(self, what):
        yard = self._yard
        healthy = [relay for relay in yard.relays if relay not in self._thaw]
        if len(healthy) < RELAYS[1]:
            await yard.add_relay()
        if what == "none" or len(healthy) <= RELAYS[0]:
            return
        self.done[what] += 1
        victim = self._dice.choice(healthy)
        if what == "freeze":
            victim.freeze()
            self._thaw[victim] = time.monotonic() + self._dice.uniform(LEASE, LEASE + 3)
            return
        yard.relays.remove(victim)
        await (victim.kill() if what == "kill" else victim.stop())

    async def _thawed(self, now):
        for relay in [relay for relay, at in self._thaw.items() if at <= now]:
            relay.thaw()
            del self._thaw[relay]

    async def _restart(self, how, part):
        self.done[f"{type(part).__name__} {how}"] += 1
        await (part.stop() if how == "stop" else part.kill())
        await part.resume()


@pytest.fixture(scope="module")
async def storm(broker, seed, say, request):
    """Everything that can happen; `broker` proves that Kafka is to be had."""
    async with Home.open() as home, Yard.open(home, seed) as yard:
        for _ in range(RELAYS[0]):
            await yard.add_relay()
        storm = Storm(yard)
        async with yard.writing(large=0.002):
            await storm.blow(request.config.getoption("--chaos-minutes") * 60 or SHORT)
        await yard.allow_large()
        await yard.drained()
        found = await yard.audit()
        say(f"relay chaos seed {seed}: {found}, {yard.repairs} repairs, {dict(storm.done)}")
        return found, yard.repairs


@pytest.fixture(scope="module")
async def calm(broker, seed, say):
    """Relays that only come and go."""
    async with Home.open() as home, Yard.open(home, seed) as yard:
        await yard.add_relay()
        async with yard.writing():
            for _ in range(2):
                await yard.add_relay()
                await asyncio.sleep(CALM / 4)
                await yard.relays.pop(0).stop()
                await asyncio.sleep(CALM / 4)
        await yard.drained()
        found = await yard.audit()
        say(f"relay calm: {found}")
        return found


def test_no_committed_event_is_lost_and_none_appears_that_was_rolled_back(storm, calm):
    for found in (storm[0], calm):
        assert found.committed > 500
        assert (found.lost, found.foreign) == ([], [])


def test_first_deliveries_of_a_key_are_in_order(storm, calm):
    assert (storm[0].inversions, calm.inversions) == ([], [])


def test_blocked_keys_were_repaired_on_the_way(storm):
    assert storm[1] > 0


def test_relays_that_only_come_and_go_repeat_nothing(calm):
    assert calm.duplicates == 0


@pytest.mark.parametrize(
    ("arrived", "expected"),
    [
        pytest.param("a1 a2 b1", (0, 0, 0, 0), id="in order"),
        pytest.param("a1 a2 a1 a2 b1", (0, 0, 0, 2), id="a run that is repeated"),
        pytest.param("a2 a1 b1", (0, 0, 1, 0), id="the second first"),
        pytest.param("a1 b1", (1, 0, 0, 0), id="one is missing"),
        pytest.param("a1 a2 b1 c1", (0, 1, 0, 0), id="one was rolled back"),
        pytest.param("a1 a2", (0, 0, 0, 0), id="one was skipped: b1"),
    ],
)
def test_the_auditor_sees(arrived, expected):
    events = {name: Event(name, name[0], int(name[1])) for name in ("a1", "a2", "b1", "c1")}
    skipped = {"b1"} if "b1" not in arrived else set()
    committed = [events[name] for name in ("a1", "a2", "b1")]
    found = audit(committed, skipped, [events[name] for name in arrived.split()])
    assert (len(found.lost), len(found.foreign), len(found.inversions), found.duplicates) == expected
