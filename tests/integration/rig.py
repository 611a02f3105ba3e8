"""Services as processes on parts of their own, and what a test sends them and asks them."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from valkey.asyncio import Valkey as ValkeyClient

from contracts.users import CACHE, TOPIC
from eventing.dead_letter import topic_of
from workbench.fleet import GROUPS, PARTITIONS, Fleet
from workbench.home import Home
from workbench.stack import Stack
from workbench.topics import ensure_topics

LARGE = 4 << 20  # bytes of a record that `user-events` and analytics' dead letters take here; others keep the default
QUICK = {  # retries, recovery and doubts take seconds, not minutes
    "EVENTING_CONSUMER_ATTEMPTS": "3",
    "EVENTING_CONSUMER_BACKOFF_INITIAL": "0.05",
    "EVENTING_CONSUMER_BACKOFF_MAX": "0.2",
    "EVENTING_CONSUMER_SESSION_TIMEOUT": "6",
    "MAILER_SMTP_TIMEOUT": "2",
}

Headers = Sequence[tuple[str, bytes | None]]


async def until(probe: Callable[[], Any], seconds: float = 15, *, pause: float = 0.02) -> Any:
    """Return the first true answer of `probe`, which may be a coroutine function; TimeoutError when there is none."""
    async with asyncio.timeout(seconds):
        while True:
            found = probe()
            found = await found if isinstance(found, Awaitable) else found
            if found:
                return found
            await asyncio.sleep(pause)


def registered(user: str, **more: Any) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Return body and headers of a registration as our relay writes it; `more` goes into the body."""
    body = {"userId": user, "action": "registered", "email": f"{user}@example.com"} | more
    return json.dumps(body).encode(), attributes("com.evenkeel.user.registered.v1", user, aggregateversion="1")


def attributes(event_type: str, user: str, **more: str) -> list[tuple[str, bytes]]:
    """Return CloudEvents headers; `more` replaces or adds `ce_*` attributes."""
    named = {"specversion": "1.0", "id": f"e-{user}", "source": "/test", "type": event_type, "partitionkey": user}
    return [(f"ce_{name}", value.encode()) for name, value in (named | more).items()]


class Raw(str):
    """A header's key with bytes of its own: what a producer in another language may write."""

    __slots__ = ("raw",)

    def __new__(cls, raw: bytes) -> Self:
        """Take the bytes."""
        made = super().__new__(cls, raw.decode(errors="replace"))
        made.raw = raw
        return made

    def encode(self, *_: Any) -> bytes:
        """Return the bytes."""
        return self.raw


class Tail:
    """Follows a topic from its beginning and keeps every record."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self.records: list[Any] = []
        self._places = [TopicPartition(topic, n) for n in range(partitions)]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
        )
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def following(self) -> AsyncIterator[Self]:
        """Follow while the block runs."""
        await self._consumer.start()
        self._consumer.assign(self._places)
        self._task = asyncio.create_task(self._follow())
        try:
            yield self
        finally:
            self._task.cancel()
            await asyncio.wait([self._task])
            await self._consumer.stop()

    async def _follow(self) -> None:
        while True:
            for records in (await self._consumer.getmany(timeout_ms=200)).values():
                self.records += records


class Rig:
    """Kafka, PostgreSQL, Valkey, a mailbox, and services on them."""

    def __init__(self, home: Home, stack: Stack, fleet: Fleet) -> None:
        self.home, self.stack, self.fleet = home, stack, fleet
        self._producer = AIOKafkaProducer(bootstrap_servers=stack.broker.bootstrap, max_request_size=2 * LARGE)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Mapping[str, str] | None = None) -> AsyncIterator[Self]:
        """Start the parts and make topics, databases and tables; no service runs yet."""
        async with Home.open() as home:
            stack = await Stack.start(home)
            large = dict.fromkeys((TOPIC, topic_of(TOPIC, "analytics")), PARTITIONS)
            await ensure_topics(stack.broker.bootstrap, large, {"max.message.bytes": str(LARGE)})
            rig = cls(home, stack, await Fleet.prepare(home, stack, QUICK | dict(settings or {})))
            async with rig._producer:
                yield rig

    async def send(
        self, value: bytes | None, headers: Headers = (), *, key: bytes | None = None, partition: int = 0
    ) -> int:
        """Write one record as it is to `user-events`; returns its offset."""
        return await self.send_batch([(key, value, headers)], partition=partition)

    async def send_batch(
        self, records: Iterable[tuple[bytes | None, bytes | None, Headers]], *, partition: int = 0
    ) -> int:
        """Write records as one batch; returns the offset of the first."""
        batch = self._producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 2 * LARGE)  # takes any header name
        for key, value, headers in records:
            assert batch.append(timestamp=None, key=key, value=value, headers=list(headers))
        written = await (await self._producer.send_batch(batch, TOPIC, partition=partition))
        return int(written.offset)

    async def probe(self, name: str, path: str = "/readyz") -> tuple[int, dict[str, Any]]:
        """Ask a service's probe; status 0 when nobody answers."""
        try:
            async with httpx.AsyncClient(base_url=self.fleet.url(name), timeout=5) as http:
                answer = await http.get(path)
        except httpx.TransportError as error:
            return 0, {"error": str(error)}
        return answer.status_code, answer.json()

    async def says(self, name: str, check: str, words: str) -> dict[str, str] | None:
        """Return a service's readiness checks when `check` contains `words`, None when it does not."""
        checks: dict[str, str] = (await self.probe(name))[1].get("checks", {})
        return checks if words in checks.get(check, "") else None

    async def unready(self, name: str, words: str, seconds: float = 20) -> dict[str, str]:
        """Wait until a service says that it is not ready because of `words`, while it is alive; returns its checks."""

        async def says() -> dict[str, str] | None:
            status, said = await self.probe(name)
            checks: dict[str, str] = said.get("checks", {})
            return checks if status == 503 and words in " ".join(checks.values()) else None

        found: dict[str, str] = await until(says, seconds, pause=0.1)
        assert (await self.probe(name, "/livez"))[0] == 200
        return found

    async def committed(self, group: str) -> dict[tuple[str, int], int]:
        """Return the offsets a group has committed, by topic and partition."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.stack.broker.bootstrap)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(group)
        finally:
            await admin.close()
        return {(tp.topic, tp.partition): known.offset for tp, known in found.items()}

    async def has_committed(self, group: str, partition: int, offset: int) -> bool:
        """Tell whether a group is done with `user-events` up to an offset."""
        return (await self.committed(group)).get((TOPIC, partition), 0) >= offset

    async def delete_topic(self, topic: str) -> None:
        """Delete a topic and wait until it is gone."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.stack.broker.bootstrap)
        await admin.start()
        try:
            await admin.delete_topics([topic])
            await until(lambda: _absent(admin, topic))
        finally:
            await admin.close()

    async def fetch(self, database: str, query: str, *args: Any) -> list[asyncpg.Record]:
        """Read from a service's database."""
        connection = await asyncpg.connect(self.stack.postgres.url(database))
        try:
            return await connection.fetch(query, *args)
        finally:
            await connection.close()

    async def cached(self, user: str) -> dict[bytes, bytes]:
        """Return what the cache holds of a user."""
        async with ValkeyClient.from_url(self.stack.valkey.url) as valkey:
            found: dict[bytes, bytes] = await valkey.hgetall(f"{CACHE}:{{{user}}}")
        return found

    @asynccontextmanager
    async def letters(self) -> AsyncIterator[dict[str, Tail]]:
        """Follow the dead-letter topic of every group while the block runs."""
        bootstrap = self.stack.broker.bootstrap
        tails = {group: Tail(bootstrap, topic_of(TOPIC, group), PARTITIONS) for group in GROUPS}
        first, second, third = tails.values()
        async with first.following(), second.following(), third.following():
            yield tails


async def _absent(admin: AIOKafkaAdminClient, topic: str) -> bool:
    return topic not in await admin.list_topics()


async def letter_of(tail: Tail, offset: int, partition: int = 0, seconds: float = 15) -> Any:
    """Wait for the dead letter of a record of `user-events`."""
    origin = {("x-origin-topic", TOPIC.encode()), ("x-origin-partition", b"%d" % partition)}
    origin.add(("x-origin-offset", b"%d" % offset))
    return await until(lambda: next((r for r in tail.records if origin <= set(r.headers)), None), seconds)


def new_user() -> str:
    """Return a user's id that no other test uses."""
    return f"u{secrets.token_hex(4)}"


async def measured(work: Awaitable[Any]) -> float:
    """Return how many seconds something took."""
    started = time.monotonic()
    await work
    return time.monotonic() - started
