"""Outbox → Kafka: every committed event is sent, in order per key, and forgotten only after the acknowledgement.

Several relays share the buckets (`lease.py`). A refused or uncertain row cannot be overtaken by a later one of its key
(`sender.py`). Wrong and therefore absent: a remembered cursor (skips transactions that commit late) and `SKIP LOCKED`
on rows (reorders a key between relays).
"""

import asyncio
from collections import Counter, defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime

import asyncpg
import structlog

from eventing import tracing
from eventing.database import Database
from eventing.errors import SendFailed, Unavailable
from eventing.lease import Leases
from eventing.metrics import OUTBOX_BATCH, OUTBOX_PUBLISH_DELAY, OUTBOX_PUBLISHED, OUTBOX_UNMARKED
from eventing.outbox import BUCKETS
from eventing.producer import Producer
from eventing.sender import Rows, Sender
from eventing.sql import load
from eventing.wake import Wake

_SQL = load("eventing", "outbox")

POLL_MIN = 0.01  # seconds between polls while events flow
BACKOFF = (0.2, 5.0)  # seconds to wait after an outage: first, at most
HANDS = 4  # each moves its part of the buckets: one encodes while the other waits for the database or the broker
BUSY = 200  # rows of a step from which all hands are used: for a few, one question is cheaper than several
ROWS_PER_BUCKET = 8  # at least; more when few buckets share a batch

log = structlog.get_logger()


class Relay:
    """One relay process; run as many as you like."""

    def __init__(self, database: Database, producer: Producer, *, lease: float, batch: int, poll_max: float) -> None:
        """Describe the relay.

        Args:
            database: holds the outbox.
            producer: the way to Kafka.
            lease: seconds a bucket stays ours without renewal.
            batch: rows sent at once, at most.
            poll_max: seconds between polls of an idle outbox.
        """
        self.leases = Leases(database, seconds=lease)
        self.outage: str | None = None
        self._database = database
        self._sender = Sender(producer)
        self._batch = batch
        self._poll_max = poll_max
        self._hinted = asyncio.Event()
        self._wake = Wake(database, self._heard)
        self._moved = 0  # rows of the last step
        self._full = [BUCKETS] * HANDS  # buckets that gave as many rows as were asked for, at the last read

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop` is set; outages of the database or the broker are waited for."""
        listener = asyncio.create_task(self._wake.listen())
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

    async def check(self) -> None:
        """Raise while an outage is waited for; for readiness.

        Raises:
            Unavailable: naming what does not answer.
        """
        if self.outage is not None:
            raise Unavailable(self.outage)

    async def step(self) -> int:
        """Move one batch with each hand; returns how many rows left the outbox.

        Raises:
            SendFailed: the broker did not answer; the rows stay and come again.
            Unavailable: the database did not answer.
        """
        buckets = self.leases.buckets
        if not buckets:
            return 0
        hands = HANDS if self._moved >= BUSY else 1
        found = await asyncio.gather(
            *(self._hand(buckets[n::hands], n) for n in range(hands)), return_exceptions=True
        )  # a hand that fails lets the other finish: what it sends is acknowledged and forgotten
        for failure in found:
            if isinstance(failure, BaseException):
                raise failure
        await self.leases.floors.look()  # no event waits for it here
        self._moved = sum(found)  # type: ignore[arg-type]  # numbers alone are left
        return self._moved

    async def _hand(self, buckets: list[int], number: int) -> int:
        """Read one batch of these buckets, send it, forget what was acknowledged."""
        rows = await self._read(buckets, number)
        if not rows:
            return 0
        OUTBOX_BATCH.observe(len(rows))
        aside = [row for row in rows if row["blocked"]]
        await self._park(aside)
        return len(aside) + await self._send([row for row in rows if not row["blocked"]])

    async def _read(self, buckets: list[int], number: int) -> Rows:
        floors, most = self.leases.floors, self._batch // HANDS
        limit = max(ROWS_PER_BUCKET, most // max(1, self._full[number]))
        rows = await self._database.fetch(_SQL["read"], buckets, floors.of(buckets), limit, floors.server)
        floors.advance(buckets, {row["bucket"]: row["seq"] for row in reversed(rows)})
        self._full[number] = sum(count >= limit for count in Counter(row["bucket"] for row in rows).values())
        return rows[:most]

    async def _send(self, rows: Rows) -> int:
        with _spans(rows):
            sent = await self._sender.send(rows)
            await self._forget(sent.acknowledged)
        for row, reason in sent.refused:
            await self._block(row, reason)
        if sent.failure is not None:
            raise sent.failure
        return len(sent.acknowledged) + len(sent.refused)

    async def _forget(self, rows: Rows) -> None:
        if not rows:
            return
        now = datetime.now(UTC)
        try:
            await self._database.execute(_SQL["delete"], [r["bucket"] for r in rows], [r["seq"] for r in rows])
        except BaseException:
            OUTBOX_UNMARKED.inc(len(rows))  # they will be sent again, with the same event ids
            raise
        for topic, of_topic in _by_topic(rows).items():
            OUTBOX_PUBLISHED.labels(topic).inc(len(of_topic))
            delay = OUTBOX_PUBLISH_DELAY.labels(topic)
            for row in of_topic:
                delay.observe((now - row["created_at"]).total_seconds())

    async def _block(self, row: asyncpg.Record, reason: str) -> None:
        names = {"aggregate": row["aggregatetype"], "topic": row["topic"], "event_id": str(row["id"])}
        log.error("outbox_key_blocked", reason=reason, remedy="eventing outbox list", **names)
        await self._database.execute(_SQL["block"], row["bucket"], row["seq"], reason, self.leases.owner)

    async def _park(self, rows: Rows) -> None:
        """Move rows of blocked keys aside."""
        if rows:
            names = ("bucket", "seq", "aggregatetype", "aggregateid")
            await self._database.execute(_SQL["park"], *([row[name] for row in rows] for name in names))

    async def _pause(self, stop: asyncio.Event, seconds: float) -> None:
        """Wait for the next poll, a hint, or the end; whichever comes first."""
        waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._hinted.wait())]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        self._hinted.clear()

    def _heard(self, words: str) -> None:
        if words == "leases":
            self.leases.recall()
        self._hinted.set()

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


def _by_topic(rows: Rows) -> dict[str, Rows]:
    topics: dict[str, Rows] = defaultdict(list)
    for row in rows:
        topics[row["topic"]].append(row)
    return topics


def _spans(rows: Rows) -> ExitStack:
    """Open one send span per topic and `MAX_LINKS` rows, linked to where each event was created."""
    spans = ExitStack()
    if not tracing.exporting():
        return spans
    for topic, of_topic in _by_topic(rows).items():
        origins = [(str(row["id"]), row["traceparent"]) for row in of_topic]
        for start in range(0, len(origins), tracing.MAX_LINKS):
            spans.enter_context(tracing.relayed(topic, origins[start : start + tracing.MAX_LINKS]))
    return spans
