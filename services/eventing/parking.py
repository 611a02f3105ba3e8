"""`park_key`: once an event of a key is given up, later events of the key follow it, until a redrive replays them.

The semantics are those of Axon's sequenced dead-letter queue. Which keys are parked is known without asking, as long
as none is: the owner of a key's partition parks it, and reads what its predecessors parked when it begins. Others park
a key too, when a letter that came back fails again: that is read every second, and what comes earlier may still run.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from eventing.clock import monotonic
from eventing.errors import Overload
from eventing.event import Event, Record
from eventing.lane import Place
from eventing.outcome import Kind, Outcome, parked
from eventing.port import Fence, Spot, Start

EVERY = 1.0  # seconds between looks for keys that others have parked
PATIENCE = 5.0  # seconds that a look may take
OVERLAP = 60.0  # seconds looked back beyond the last look: a key is parked before the others can see it


class Parking:
    """The parked keys of one group, as one of its members sees them."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self._keys: set[tuple[str, bytes]] = set()
        self._looked: float | None = None  # monotonic seconds of the last look

    async def load(self) -> None:
        """Read which keys are parked; before the first record of new partitions is handled.

        Raises:
            Overload: nobody can tell.
        """
        now = monotonic()
        with _held():
            async with asyncio.timeout(PATIENCE):
                self._keys |= await self._fence.keys()
        self._looked = now

    async def watch(self) -> None:
        """Read which keys others park, until cancelled; while that cannot be read, nobody can park one either."""
        while True:
            await asyncio.sleep(EVERY)
            if self._looked is None:
                continue
            now = monotonic()
            with suppress(Exception):  # told by whatever needs the database next
                async with asyncio.timeout(PATIENCE):
                    self._keys |= await self._fence.keys(within=now - self._looked + OVERLAP)
                self._looked = now

    async def begin(self, starts: dict[Place, Start]) -> None:
        """Let no key wait for records that expired before a commit named them: they may have no dead letter."""
        with _held():
            for (topic, partition), start in starts.items():
                if start.lost or start.fresh:
                    first = 0 if start.fresh else start.offset - start.lost
                    for spot in await self._fence.parked(topic, partition, first, start.offset):
                        await self._fence.lift(spot)

    def concerns(self, event: Event, record: Record) -> bool:
        """Tell whether an event may not simply run: its key is parked, or it comes back and may be of a key that is."""
        return record.key is not None and (event.redrives > 0 or (event.topic, record.key) in self._keys)

    async def turn(self, event: Event, record: Record) -> Outcome | None:
        """Decide about an event of a parked key: None means that it runs."""
        with _held():
            turn = await self._fence.enter(_spot(event, record))
        match turn:
            case "free":
                self._keys.discard((event.topic, record.key or b""))
                return None
            case "head":
                return None
            case "passed":  # a letter that is older than the fence was never parked, or has expired: it runs, late
                return None if event.redrives else Outcome(Kind.DUPLICATE)
            case "behind":
                return parked()

    async def park(self, key: bytes | None, topic: str, partition: int, offset: int) -> None:
        """Park a record that was given up, before its dead letter is written; one without a key parks nothing.

        Topic, partition and offset are those of its first delivery, also when it cannot be read.
        """
        if key is not None:
            await self._fence.park(Spot(topic, key, partition, offset))
            self._keys.add((topic, key))

    async def done(self, event: Event, record: Record) -> None:
        """Strike an event of a parked key off."""
        with _held():
            free = await self._fence.lift(_spot(event, record))
        if free:
            self._keys.discard((event.topic, record.key or b""))


def _spot(event: Event, record: Record) -> Spot:
    return Spot(event.topic, record.key or b"", event.partition, event.offset)


@contextmanager
def _held() -> Iterator[None]:
    """Hold everything back while nobody can tell which keys are parked."""
    try:
        yield
    except Exception as error:
        raise Overload(f"the parked keys cannot be told: {error}") from error
