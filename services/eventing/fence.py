"""Which keys are parked, in the database of the inbox: one row for each key, one for each record behind it.

Rows of records, not a count: a record that is delivered twice is parked once.
"""

from typing import Literal

from eventing.database import Database
from eventing.port import Spot
from eventing.sql import load

_SQL = load("eventing", "fence")


class PostgresFence:
    """The parked keys of one group; every call is one transaction under the key's row lock."""

    def __init__(self, database: Database, group: str) -> None:
        self._database = database
        self._group = group

    async def keys(self, *, within: float | None = None) -> set[tuple[str, bytes]]:
        """Return every parked key, with its topic, or those that were parked in the last seconds."""
        rows = await self._database.fetch(_SQL["keys"], self._group, within)
        return {(row["topic"], row["key"]) for row in rows}

    async def enter(self, spot: Spot) -> Literal["free", "head", "behind", "passed"]:
        """Ask for the turn of a record of a key that may be parked; see `port.Fence`."""
        async with self._database.transaction() as tx:
            if not await tx.fetchval(_SQL["lock"], self._group, spot.topic, spot.key):
                return "free"
            head, known = await tx.fetchrow(_SQL["head"], *self._row(spot)) or (None, False)
            if head is None or head == spot.offset:
                return "head"
            if not known and spot.offset < head:
                return "passed"
            await tx.execute(_SQL["park"], *self._row(spot))
            return "behind"

    async def parked(self, topic: str, partition: int, first: int, before: int) -> list[Spot]:
        """Return the parked records of a partition with offsets from `first` to below `before`."""
        rows = await self._database.fetch(_SQL["parked"], self._group, topic, partition, first, before)
        return [Spot(topic, row["key"], partition, row["offset"]) for row in rows]

    async def park(self, spot: Spot) -> None:
        """Park a record, and with it its key."""
        async with self._database.transaction() as tx:
            await tx.execute(_SQL["park_key"], self._group, spot.topic, spot.key)
            await tx.execute(_SQL["park"], *self._row(spot))

    async def lift(self, spot: Spot) -> bool:
        """Strike a record that is done off; True when it was the last of its key, which is free again."""
        async with self._database.transaction() as tx:
            if not await tx.fetchval(_SQL["lock"], self._group, spot.topic, spot.key):
                return True
            await tx.execute(_SQL["strike"], *self._row(spot))
            return bool(await tx.fetchval(_SQL["free"], self._group, spot.topic, spot.key))

    def _row(self, spot: Spot) -> tuple[str, str, bytes, int, int]:
        return self._group, spot.topic, spot.key, spot.partition, spot.offset
