"""The statistics: a whole snapshot each time, and a stream of snapshots for those who watch."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import structlog

from eventing import Database
from eventing.errors import Unavailable
from eventing.sql import load

_SQL = load("analytics", "stats")

DAYS = 30  # days of registrations shown
LOOK_EVERY = 0.25  # seconds between looks at the database while somebody watches
MAX_WATCHERS = 200  # open streams of one process

log = structlog.get_logger()


class TooManyWatchers(Exception):
    """This process has as many open streams as it takes."""


async def snapshot(database: Database) -> dict[str, Any]:
    """Read the statistics as of now.

    Raises:
        Unavailable: the database does not answer.
    """
    row = await database.fetchrow(_SQL["snapshot"], DAYS)
    assert row is not None  # noqa: S101  # a SELECT of aggregates has one row
    return {
        "activeUsers": row["active_users"],
        "events": row["events"],
        "registrationsPerDay": json.loads(row["registrations_per_day"]),
    }


class Watch:
    """One look at the database serves every open stream of this process.

    Looking, instead of being told by the consumers, is right with any number of processes on either side.
    """

    def __init__(self, database: Database, stopping: asyncio.Event) -> None:
        self._database = database
        self._stopping = stopping
        self._changed = asyncio.Condition()
        self._latest: dict[str, Any] | None = None
        self._number = 0
        self._watchers = 0

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Look regularly while the block runs, if anybody watches."""
        task = asyncio.create_task(self._look())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Take part while the block runs.

        Raises:
            TooManyWatchers: no more streams are taken.
        """
        if self._watchers >= MAX_WATCHERS:
            raise TooManyWatchers
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    async def snapshots(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the statistics now and after each change, until this process stops; needs a `seat`."""
        seen = self._number
        yield await snapshot(self._database)
        while await self._next(seen):
            seen = self._number
            if self._latest is not None:
                yield self._latest

    async def _next(self, seen: int) -> bool:
        """Wait for a snapshot after `seen`; False when this process stops."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._number > seen or self._stopping.is_set())
        return not self._stopping.is_set()

    async def _look(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._stopping.wait(), LOOK_EVERY)
            except TimeoutError:
                await self._refresh()
                continue
            async with self._changed:
                self._changed.notify_all()
            return

    async def _refresh(self) -> None:
        if not self._watchers:
            self._latest = None  # old by the time somebody watches again
            return
        try:
            found = await snapshot(self._database)
        except (Unavailable, TimeoutError, asyncpg.PostgresError) as error:
            log.warning("statistics_unavailable", error=str(error))
            return
        if found == self._latest:
            return
        async with self._changed:
            self._latest, self._number = found, self._number + 1
            self._changed.notify_all()
