"""Outbox → Kafka: every committed event is sent, in order per key, and forgotten only after the acknowledgement.

Several relays share the buckets (`lease.py`). A key never has two rows under way, so a refused or uncertain row
cannot be overtaken. Wrong and therefore absent: a remembered cursor (skips transactions that commit late) and
`SKIP LOCKED` on rows (reorders a key between relays).
"""

import asyncio
from collections import defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime

import asyncpg
import structlog

from eventing import headers, tracing
from eventing.database import Database
from eventing.errors import SendFailed, Unavailable
from eventing.headers import Headers
from eventing.lease import Leases
from eventing.metrics import (
    OUTBOX_BATCH,
    OUTBOX_PUBLISH_DELAY,
    OUTBOX_PUBLISH_ERRORS,
    OUTBOX_PUBLISHED,
    OUTBOX_UNMARKED,
)
from eventing.producer import Producer
from eventing.sql import load

_SQL = load("eventing", "outbox")

POLL_MIN = 0.01  # seconds between polls while events flow
BACKOFF = (0.2, 5.0)  # seconds to wait after an outage: first, at most
ROWS_PER_BUCKET = 8  # at least; more when few buckets share a batch

Key = tuple[str, str]  # aggregate type and id: the unit of order

log = structlog.get_logger()


class Relay:
    """One relay process; run as many as you like."""

    def __init__(self, database: Database, producer: Producer, *, lease: float, batch: int, poll_max: float) -> None:
        """Describe the relay.

        Args:
            database: holds the outbox.
            producer: the way to Kafka.
            lease: seconds a bucket stays ours without renewal.
            batch: rows read at once, at most.
            poll_max: seconds between polls of an idle outbox.
        """
        self.leases = Leases(database, seconds=lease)
        self.outage: str | None = None
        self._database = database
        self._producer = producer
        self._batch = batch
        self._poll_max = poll_max
        self._hinted = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop` is set; outages of the database or the broker are waited for."""
        listener = asyncio.create_task(self._listen())
        try:
            await self._loop(stop)
        finally:
            listener.cancel()
            await asyncio.wait([listener])
            await self._leave()

    async def _loop(self, stop: asyncio.Event) -> None:
        pause = POLL_MIN
        while not stop.is_set():
            try:
                if self.leases.due:
                    await self.leases.renew()
                moved = await self.step()
                self._recovered()
                pause = POLL_MIN if moved else min(pause * 2, self._poll_max)
            except (Unavailable, TimeoutError, asyncpg.PostgresError, SendFailed) as error:
                self._failed(error)
                pause = min(max(pause * 2, BACKOFF[0]), BACKOFF[1])
            await self._pause(stop, pause)

    async def step(self) -> int:
        """Read one batch, send it, forget what was acknowledged; returns how many rows went.

        Raises:
            SendFailed: the broker did not answer; the rows stay and come again.
            Unavailable: the database did not answer.
        """
        buckets = self.leases.buckets
        if not buckets:
            return 0
        limit = max(ROWS_PER_BUCKET, self._batch // len(buckets))
        rows = (await self._database.fetch(_SQL["read"], buckets, limit))[: self._batch]
        if not rows:
            return 0
        OUTBOX_BATCH.observe(len(rows))
        return await self._relay(await self._without_blocked(rows, buckets))

    async def _relay(self, rows: list[asyncpg.Record]) -> int:
        chains: dict[Key, list[asyncpg.Record]] = defaultdict(list)
        for row in rows:
            chains[row["aggregatetype"], row["aggregateid"]].append(row)
        acknowledged: list[asyncpg.Record] = []
        with _spans(rows):
            sent = await asyncio.gather(
                *(self._chain(c, acknowledged) for c in chains.values()), return_exceptions=True
            )
            await self._forget(acknowledged)
            for failure in sent:
                if failure is not None:
                    raise failure
        return len(acknowledged)

    async def _chain(self, rows: list[asyncpg.Record], acknowledged: list[asyncpg.Record]) -> None:
        """Send the rows of one key one after another; a refused row blocks the key, an uncertain one ends the chain."""
        for row in rows:
            try:
                await self._producer.send(
                    row["topic"], row["payload"], key=row["aggregateid"].encode(), headers=record_headers(row)
                )
            except SendFailed as error:
                OUTBOX_PUBLISH_ERRORS.labels(row["topic"], error.reason).inc()
                if not error.final:
                    raise
                await self._block(row, str(error))
                return
            acknowledged.append(row)
            OUTBOX_PUBLISH_DELAY.labels(row["topic"]).observe((datetime.now(UTC) - row["created_at"]).total_seconds())

    async def _forget(self, rows: list[asyncpg.Record]) -> None:
        if not rows:
            return
        try:
            await self._database.execute(_SQL["delete"], [r["bucket"] for r in rows], [r["seq"] for r in rows])
        except BaseException:
            OUTBOX_UNMARKED.inc(len(rows))  # they will be sent again, with the same event ids
            raise
        for row in rows:
            OUTBOX_PUBLISHED.labels(row["topic"]).inc()

    async def _block(self, row: asyncpg.Record, reason: str) -> None:
        key = (row["aggregatetype"], row["aggregateid"])
        log.error("outbox_key_blocked", aggregate=key[0], topic=row["topic"], event_id=str(row["id"]), reason=reason)
        async with self._database.transaction() as tx:
            await tx.execute(_SQL["block"], *key, row["bucket"], reason)
            await tx.execute(_SQL["park"], [row["bucket"]], [row["seq"]])

    async def _without_blocked(self, rows: list[asyncpg.Record], buckets: list[int]) -> list[asyncpg.Record]:
        """Move rows of blocked keys aside and return the others."""
        found = await self._database.fetch(_SQL["blocked_keys"], buckets)
        blocked = {(row["aggregatetype"], row["aggregateid"]) for row in found}
        for key in blocked:
            if met := [row for row in rows if (row["aggregatetype"], row["aggregateid"]) == key]:
                await self._park(key, met)
        return [row for row in rows if (row["aggregatetype"], row["aggregateid"]) not in blocked]

    async def _park(self, key: Key, rows: list[asyncpg.Record]) -> None:
        async with self._database.transaction() as tx:
            if await tx.fetchval(_SQL["lock_key"], *key):
                await tx.execute(_SQL["park"], [row["bucket"] for row in rows], [row["seq"] for row in rows])

    async def _pause(self, stop: asyncio.Event, seconds: float) -> None:
        """Wait for the next poll, a hint, the renewal of the leases, or the end; whichever comes first."""
        waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._hinted.wait())]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        self._hinted.clear()

    async def _listen(self) -> None:
        """Be woken by the writers' hints; without a direct connection (a pooler) polling alone does the work."""
        while not self._database.pooler:
            try:
                connection = await asyncpg.connect(self._database.url, timeout=self._database.timeout)
                gone = asyncio.Event()
                connection.add_termination_listener(lambda _: gone.set())  # noqa: B023  # one pair per turn
                try:
                    await connection.add_listener("eventing_outbox", lambda *_: self._hinted.set())
                    await gone.wait()
                finally:
                    connection.terminate()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pass
            await asyncio.sleep(BACKOFF[1])

    async def _leave(self) -> None:
        try:
            await self.leases.leave()
        except (Unavailable, TimeoutError, asyncpg.PostgresError) as error:
            log.warning("outbox_leases_not_released", error=str(error), expire_in=self.leases.buckets)

    def _failed(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if self.outage is None:
            log.warning("relay_waits", reason=reason)
        self.outage = reason

    def _recovered(self) -> None:
        if self.outage is not None:
            log.info("relay_resumes", after=self.outage)
        self.outage = None


def _spans(rows: list[asyncpg.Record]) -> ExitStack:
    """Open one send span per topic and `MAX_LINKS` rows, linked to where each event was created."""
    spans = ExitStack()
    by_topic: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    for row in rows:
        by_topic[row["topic"]].append((str(row["id"]), row["traceparent"]))
    for topic, origins in by_topic.items():
        for start in range(0, len(origins), tracing.MAX_LINKS):
            spans.enter_context(tracing.relayed(topic, origins[start : start + tracing.MAX_LINKS]))
    return spans


def record_headers(row: asyncpg.Record) -> Headers:
    """Return the CloudEvents headers of an outbox row, and its creation context as the first hop."""
    named = {
        headers.CONTENT_TYPE: "application/json",
        headers.SPECVERSION: "1.0",
        headers.ID: str(row["id"]),
        headers.SOURCE: row["source"],
        headers.TYPE: row["type"],
        headers.SUBJECT: row["aggregateid"],
        headers.TIME: row["created_at"].isoformat(),
        headers.DATASCHEMA: row["dataschema"],
        headers.PARTITIONKEY: row["aggregateid"],
        headers.AGGREGATEVERSION: str(row["aggregateversion"]),
        headers.CORRELATIONID: row["correlationid"],
        headers.CAUSATIONID: row["causationid"],
        headers.EXPIRYTIME: row["expirytime"].isoformat() if row["expirytime"] else None,
        headers.ORIGIN_TRACEPARENT: row["traceparent"],
        headers.TRACEPARENT: row["traceparent"],
        headers.TRACESTATE: row["tracestate"],
    }
    return [(name, value.encode()) for name, value in named.items() if value]
