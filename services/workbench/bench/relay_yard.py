"""Where relays are measured: a database with a backlog, a topic, and relays as processes."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import asyncpg

from eventing.migrate import migrate
from eventing.outbox import BUCKETS, bucket
from eventing.sql import load
from workbench.bench.watch import done, ready, wrote
from workbench.broker import Broker
from workbench.home import Home
from workbench.ports import free_port
from workbench.postgres import Postgres
from workbench.process import Process
from workbench.topics import ensure_topics

_SQL = load("workbench.bench", "relay")

PARTITIONS = 4
_PAUSE = 0.01  # seconds between looks at the outbox


@dataclass
class Yard:
    """The parts of a relay benchmark."""

    home: Home
    broker: Broker
    url: str
    connection: asyncpg.Connection
    _turn: int = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, home: Home) -> AsyncIterator["Yard"]:
        """Start Kafka and PostgreSQL, and create the tables."""
        broker, postgres = await Broker.start(home), await Postgres.start(home)
        url = await postgres.create_database("bench")
        await migrate(url)
        connection = await asyncpg.connect(url)
        try:
            yield cls(home, broker, url, connection)
        finally:
            await connection.close()

    @asynccontextmanager
    async def relays(self, count: int) -> AsyncIterator[list[Process]]:
        """Run so many relays, and wait until each is ready and has its share."""
        started = [await self._relay() for _ in range(count)]
        for process, port in started:
            await done(process, partial(ready, port))
        await self._shared(count)
        try:
            yield [process for process, _ in started]
        finally:
            for process, _ in started:
                await process.stop()

    async def _relay(self) -> tuple[Process, int]:
        self._turn += 1
        port = free_port()
        known = {
            "EVENTING_SERVICE": "bench",
            "EVENTING_DATABASE_URL": self.url,
            "EVENTING_KAFKA_BOOTSTRAP": self.broker.bootstrap,
            "EVENTING_HTTP_PORT": str(port),
            "EVENTING_LOG_FORMAT": "json",
        }
        argv = (sys.executable, "-m", "eventing.cli", "relay")
        return await self.home.spawn(f"relay-{self._turn}", argv, env=known), port

    async def _shared(self, count: int) -> None:
        query = "SELECT count(*) FROM eventing.outbox_lease WHERE owner IS NOT NULL GROUP BY owner"
        async with asyncio.timeout(30):
            while [row[0] for row in await self.connection.fetch(query)] != [BUCKETS // count] * count:  # noqa: ASYNC110
                await asyncio.sleep(_PAUSE)

    async def topic(self) -> str:
        """Make a topic of its own for a run."""
        self._turn += 1
        name = f"bench-{self._turn}"
        await ensure_topics(self.broker.bootstrap, {name: PARTITIONS})
        return name

    async def fill(self, rows: int, keys: int) -> None:
        """Commit a backlog."""
        buckets = [bucket(f"account-{key}") for key in range(keys)]
        topic = await self.topic()
        await self.connection.execute(_SQL["empty"])
        await self.connection.execute(_SQL["fill"], rows, keys, topic, buckets, topic, timeout=120)

    async def drained(self) -> float:
        """Return how many seconds the relays take for what waits."""
        began = time.perf_counter()
        while await self.connection.fetchval(_SQL["left"]):  # noqa: ASYNC110 - a table has no event to wait for
            await asyncio.sleep(_PAUSE)
        return time.perf_counter() - began

    async def peer(self) -> float:
        """Return how many seconds aiokafka alone takes to send what waits."""
        self._turn += 1
        result = self.home.path / f"peer-{self._turn}.json"
        argv = (sys.executable, "-m", "workbench.bench.peer_producer", self.url, self.broker.bootstrap, str(result))
        process = await self.home.spawn(f"peer-{self._turn}", argv)
        await done(process, partial(wrote, result))
        await process.wait()
        return float(json.loads(result.read_text())["seconds"])
