"""The live stream: whole snapshots of the statistics, for those who watch."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import structlog

from analytics.stats import Stats, snapshot
from eventing import Database
from eventing.errors import Unavailable

LOOK_EVERY = 0.25  # seconds between looks at the database while somebody watches
MAX_WATCHERS = 200  # open streams of one process

log = structlog.get_logger()


class TooManyWatchers(Exception):
    """This process has as many open streams as it takes."""


class Watch:
    """One look at the database serves every open stream of this process.

    Looking, instead of being told by the consumers, is right with any number of processes on either side. A watcher
    that is slow misses snapshots, never the last one.
    """

    def __init__(self, database: Database, stopping: asyncio.Event) -> None:
        self._database = database
        self._stopping = stopping
        self._changed = asyncio.Condition()
        self._latest: Stats | None = None
        self._watchers = 0
        self._away = False  # an outage is logged once, not four times a second
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Look regularly while the block runs, if anybody watches."""
        self._tasks = [asyncio.create_task(self._look()), asyncio.create_task(self._end())]
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def alive(self) -> str | None:
        """Say why the process should be restarted: a look that has failed for good would freeze every stream."""
        return "nobody looks at the statistics" if self._tasks and self._tasks[0].done() else None

    @asynccontextmanager
    async def seat(self) -> AsyncIterator[AsyncIterator[Stats]]:
        """Take part while the block runs: the statistics now and after each change, until this process stops.

        Raises:
            TooManyWatchers: no more streams are taken.
            Unavailable: the database does not answer.
        """
        if self._watchers >= MAX_WATCHERS:
            raise TooManyWatchers
        self._watchers += 1
        try:
            yield self._follow(await snapshot(self._database))
        finally:
            self._watchers -= 1

    async def _follow(self, first: Stats) -> AsyncIterator[Stats]:
        found: Stats | None = first
        while found is not None:
            yield found
            found = await self._after(found)

    async def _after(self, seen: Stats) -> Stats | None:
        """Wait for a later snapshot that says something else; None when this process stops."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._stopping.is_set() or self._news(seen))
        return None if self._stopping.is_set() else self._latest

    def _news(self, seen: Stats) -> bool:
        return self._latest is not None and self._latest.as_of > seen.as_of and not self._latest.says(seen)

    async def _end(self) -> None:
        await self._stopping.wait()
        async with self._changed:
            self._changed.notify_all()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._watchers and (found := await self._read()):
                await self._tell(found)

    async def _read(self) -> Stats | None:
        try:
            found = await snapshot(self._database)
        except (Unavailable, TimeoutError, asyncpg.PostgresError) as error:
            if not self._away:
                log.warning("statistics_away", error=f"{type(error).__name__}: {error}")
            self._away = True
            return None
        self._away = False
        return found

    async def _tell(self, found: Stats) -> None:
        if self._latest is not None and self._latest.says(found):
            return
        async with self._changed:
            self._latest = found
            self._changed.notify_all()
