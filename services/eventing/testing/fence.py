"""Parked keys in memory; the same contract as the ones in PostgreSQL."""

from typing import Literal

from eventing.port import Spot


class MemoryFence:
    """The parked keys of one group; share one between the members."""

    def __init__(self) -> None:
        self._parked: dict[tuple[str, bytes], set[tuple[int, int]]] = {}

    async def keys(self, *, within: float | None = None) -> set[tuple[str, bytes]]:  # noqa: ARG002  # a bound, no promise
        """Return every parked key, with its topic."""
        return set(self._parked)

    async def enter(self, spot: Spot) -> Literal["free", "head", "behind", "passed"]:
        """Ask for the turn of a record of a key that may be parked; see `port.Fence`."""
        behind = self._parked.get((spot.topic, spot.key))
        if behind is None:
            return "free"
        offsets = {offset for partition, offset in behind if partition == spot.partition}
        head = min(offsets, default=spot.offset)
        if head == spot.offset:
            return "head"
        if spot.offset < head:
            return "passed"
        behind.add((spot.partition, spot.offset))
        return "behind"

    async def parked(self, topic: str, partition: int, first: int, before: int) -> list[Spot]:
        """Return the parked records of a partition with offsets from `first` to below `before`."""
        spots = [Spot(t, key, p, offset) for (t, key), behind in self._parked.items() for p, offset in behind]
        return [s for s in spots if (s.topic, s.partition) == (topic, partition) and first <= s.offset < before]

    async def park(self, spot: Spot) -> None:
        """Park a record, and with it its key."""
        self._parked.setdefault((spot.topic, spot.key), set()).add((spot.partition, spot.offset))

    async def lift(self, spot: Spot) -> bool:
        """Strike a record that is done off; True when it was the last of its key, which is free again."""
        behind = self._parked.get((spot.topic, spot.key), set())
        behind.discard((spot.partition, spot.offset))
        if not behind:
            self._parked.pop((spot.topic, spot.key), None)
        return not behind
