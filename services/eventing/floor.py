"""How far each bucket is done: below its floor nothing waits, and nothing will.

Reads start at the floor, so that they do not walk over index entries of rows that were deleted but cannot be cleaned up
while a long transaction still sees them. A floor is a number that was drawn from the sequence before every transaction
that could still write below it was over. That is sound only because the first write of every writer is the version row
(`outbox.add`): its transaction has an id before it draws a number.

The database holds the floors in the lease rows. The copies here count on the server of which they were learned, known
by its start time, since a standby that is promoted may have a sequence that is behind them.
"""

import time
from collections.abc import Iterable
from datetime import datetime

from eventing.database import Database
from eventing.sql import load

_SQL = load("eventing", "floor")

EVERY = 1.0  # seconds between two looks


class Floors:
    """The floors of one relay's buckets."""

    def __init__(self, database: Database) -> None:
        self.server: datetime | None = None  # start time of the server the numbers belong to
        self._database = database
        self._floors: dict[int, int] = {}
        self._drawn: tuple[int, int] | None = None  # a number, and the transaction that must be the lowest running
        self._settled = 0  # every number up to this one is visible, or never will be
        self._look_at = 0.0

    def of(self, buckets: Iterable[int]) -> list[int]:
        """Return the floor of each bucket; 0 where nothing is known."""
        return [self._floors.get(bucket, 0) for bucket in buckets]

    @property
    def known(self) -> dict[int, int]:
        """What is to be noted in the lease rows."""
        return dict(self._floors)

    def learn(self, server: datetime, found: dict[int, int]) -> None:
        """Take the floors of the buckets that are ours now from the database."""
        if server != self.server:
            self._forget(server)
        self._floors = dict(found)

    def _forget(self, server: datetime | None) -> None:
        self.server, self._floors, self._drawn, self._settled = server, {}, None, 0

    async def look(self) -> None:
        """Raise what is settled, once a second: a number is, when nobody who may have drawn a lower one still runs."""
        if time.monotonic() < self._look_at or self.server is None:
            return
        self._look_at = time.monotonic() + EVERY
        if self._drawn is None:
            drawn = await self._database.fetchrow(_SQL["drawn"])
            running = await self._database.fetchrow(_SQL["running"])  # later, never together
            if drawn and running and drawn["server"] == running["server"] == self.server:
                self._note(drawn["last_value"], running["next"])
            return
        running = await self._database.fetchrow(_SQL["running"])
        if running and running["server"] == self.server and running["lowest"] >= self._drawn[1]:
            self._settled, self._drawn = self._drawn[0], None

    def _note(self, drawn: int, after: int) -> None:
        if drawn < self._settled:
            self._forget(self.server)  # somebody has set the sequence back
        self._drawn = drawn, after

    def advance(self, buckets: Iterable[int], first: dict[int, int]) -> None:
        """Raise the floors after a read that began when `settled` was known; `first`: lowest row met, by bucket."""
        for bucket in buckets:
            floor = min(self._settled, first.get(bucket, self._settled))
            if floor > self._floors.get(bucket, 0):
                self._floors[bucket] = floor
