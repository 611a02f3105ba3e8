"""A consumer at work: joins, polls, dispatches, commits what is finished, and hands over cleanly.

Only finished work is committed: the watermark of a partition, never a position. When partitions go to another
member, running handlers are waited for and committed first; what is late after that changes nothing here.
"""

import asyncio
import time
from contextlib import ExitStack
from typing import Any

import structlog
from aiokafka.errors import KafkaError
from tenacity import wait_random_exponential

from eventing import inbox, tracing
from eventing.attempt import Attempts
from eventing.client import KafkaClient
from eventing.consumer import Consumer
from eventing.database import Database
from eventing.dead_letter import DeadLetters, redrive_topic_of
from eventing.dispatch import Dispatcher
from eventing.errors import Unavailable
from eventing.intake import Intake
from eventing.lanes import Lanes, Place
from eventing.metrics import COMMIT_FAILURES, DRAIN, INFLIGHT, LAG, LAG_SECONDS, PAUSED, PROGRESS, REBALANCES
from eventing.outcome import Retries
from eventing.producer import Producer
from eventing.settings import Settings

COMMIT_EVERY = 1.0  # seconds
COMMIT_AFTER = 500  # finished records
REJOIN = (0.2, 5.0)  # seconds before trying to join again: first, at most
POLL_LIMIT = 30.0  # seconds of silence of the poll loop before the process counts as dead
REJOIN_LIMIT = 120.0  # the same, while the group is being rebalanced
DLQ_PATIENCE = 60.0  # seconds without a dead letter getting through before readiness says so
MAINTAIN_EVERY = 3600.0  # seconds between looks at the inbox's partitions

log = structlog.get_logger()


class Runtime:
    """Runs one `Consumer` in this process."""

    def __init__(self, consumer: Consumer, settings: Settings, producer: Producer, provided: dict[type, Any]) -> None:
        """Describe the runtime.

        Args:
            consumer: what the service author declared.
            settings: of this process.
            producer: writes dead letters.
            provided: open resources by type; see `provide`.
        """
        self.lanes = Lanes()
        self.state = "starting"
        self._consumer = consumer
        self._settings = settings
        self._database: Database | None = provided.get(Database)
        attempts = Attempts(consumer, consumer.retries or _retries(settings), provided)
        self.dispatcher = Dispatcher(consumer.group, self.lanes, attempts, DeadLetters(producer, consumer.group))
        self.client: KafkaClient | None = None
        self.intake: Intake | None = None
        self._committing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []  # that run as long as this consumer does

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set; a broker that is away is waited for, a client that died is replaced."""
        workers = asyncio.create_task(self.dispatcher.run(self._settings.consumer_concurrency))
        keeper = asyncio.create_task(self._maintain_inbox())
        self._tasks = [workers, *([keeper] if self._database else [])]
        pause = REJOIN[0]
        try:
            while not stop.is_set():
                if await self._session(stop):
                    pause = REJOIN[0]
                await _sleep(stop, pause)
                pause = min(pause * 2, REJOIN[1])
        finally:
            self.state = "stopped"
            for task in (workers, keeper):
                task.cancel()
            await asyncio.wait([workers, keeper])
            self.dispatcher.close()

    def alive(self) -> str | None:
        """Return why this process should be restarted, None when it should not: measured by progress, not by pings."""
        if self.intake is None or self.client is None or self.state.startswith("cannot reach"):
            return None  # Kafka is away: restarting the fleet does not bring it back
        silent = time.monotonic() - self.intake.polled
        if silent > (REJOIN_LIMIT if self.client.rejoining else POLL_LIMIT):
            return f"the poll loop has been silent for {silent:.0f} s"
        return None

    async def check_group(self) -> None:
        """Raise unless this member consumes; for readiness."""
        if self.state != "consuming" and not self.state.startswith("no partitions"):
            raise Unavailable(self.state)
        if self.client:
            await self.client.check()
        if self.client and (missing := self.client.missing(self._consumer.topics)):
            raise Unavailable(f"topic {', '.join(missing)} does not exist; create it, or let the operator do so")
        if self.intake and self.intake.error:
            raise Unavailable(self.intake.error)

    async def check_handlers(self) -> None:
        """Raise while a dependency of the handlers is down, or dead letters cannot be written; for readiness."""
        if self.dispatcher.gate.reason:
            raise Unavailable(self.dispatcher.gate.reason)
        since = self.dispatcher.dlq_failing_since
        if since is not None and time.monotonic() - since > DLQ_PATIENCE:
            raise Unavailable(f"dead letters have not been written for {time.monotonic() - since:.0f} s")

    async def _session(self, stop: asyncio.Event) -> bool:
        """Be one member of the group, from joining to leaving; False when it could not join."""
        group = self._consumer.group
        self.client = KafkaClient(self._settings, group, on_assigned=self._assigned, on_revoked=self._revoked)
        self.intake = Intake(self.client, self.lanes, self._consumer, self._settings)
        topics = [*self._consumer.topics, *(redrive_topic_of(t, group) for t in self._consumer.topics)]
        try:
            await self.client.start(topics)
        except (KafkaError, OSError, TimeoutError) as error:
            self.state = f"cannot reach Kafka: {error or 'no answer in time'}"
            log.warning("join_failed", group=group, error=self.state)
            await self.client.stop()
            return False
        self.state = "joining"
        committer = asyncio.create_task(self._commit_regularly())
        self._tasks.append(committer)
        try:
            await self._poll(stop)
        finally:
            self._tasks.remove(committer)
            committer.cancel()
            await asyncio.wait([committer])
            self.state = "leaving"
            await self._revoked(list(self.lanes.partitions))
            await self.client.stop()
        return True

    async def _poll(self, stop: asyncio.Event) -> None:
        assert self.client is not None  # noqa: S101  # set by _session
        assert self.intake is not None  # noqa: S101  # set by _session
        while not stop.is_set() and not self.client.broken:
            self._check_tasks()
            if await self.intake.step():
                self.dispatcher.wake()
            if self.dispatcher.finished >= COMMIT_AFTER:
                await self._commit()
            if self.intake.error is not None:
                await _sleep(stop, 0.1)

    def _check_tasks(self) -> None:
        """Raise what ended a task of ours: without it this process would look well and do nothing."""
        for task in self._tasks:
            if task.done():
                task.result()
                raise RuntimeError(f"{task.get_coro()} has ended")

    async def _assigned(self, places: list[Place]) -> None:
        REBALANCES.labels(self._consumer.group).inc()
        log.info("partitions_assigned", group=self._consumer.group, partitions=len(places))
        self.state = "consuming" if places else "no partitions are left for this member"
        self.lanes.frozen = False
        if self.intake is not None:
            self.intake.assigned(places)

    async def _revoked(self, places: list[Place]) -> None:
        """Freeze, drain, commit, forget. Called by the client and, at the end, by us: its `stop` does not."""
        self.lanes.frozen = True
        if self.intake is not None:
            self.intake.revoked()
        if not places:
            return
        started = time.monotonic()
        if not await self.dispatcher.drained(self._settings.consumer_drain_timeout):
            log.warning("drain_incomplete", group=self._consumer.group, running=len(self.lanes.running))
        await self._commit()
        for place in list(self.lanes.partitions):
            self.lanes.close(place)
        self.dispatcher.dlq_failing_since = None  # whoever has the partitions now tries
        DRAIN.labels(self._consumer.group).observe(time.monotonic() - started)

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY)
            await self._commit()
            self._observe()

    async def _commit(self) -> None:
        """Commit the watermarks that moved; a refusal is counted: the records come again, to us or to another."""
        async with self._committing:
            offsets = self.lanes.uncommitted()
            self.dispatcher.finished = 0
            if not offsets or self.client is None:
                return
            try:
                with _commit_spans(offsets, self._consumer.group):
                    await self.client.commit(offsets)
            except (KafkaError, TimeoutError, OSError) as error:
                COMMIT_FAILURES.labels(self._consumer.group, type(error).__name__).inc()
                log.warning("commit_failed", group=self._consumer.group, error=f"{type(error).__name__}: {error}")
                return
            for place, offset in offsets.items():
                if place in self.lanes.partitions:
                    self.lanes.partitions[place].committed = offset

    def _observe(self) -> None:
        """Set the gauges that are sampled rather than counted."""
        group, lag, age = self._consumer.group, dict[str, int](), dict[str, float]()
        for (topic, number), partition in self.lanes.partitions.items():
            end = self.client.end((topic, number)) if self.client else None
            lag[topic] = lag.get(topic, 0) + max(0, (end or 0) - partition.watermark)
            oldest = partition.pending[0].record.timestamp / 1000 if partition.pending else None
            age[topic] = max(age.get(topic, 0.0), time.time() - oldest if oldest else 0.0)
        for topic, records in lag.items():
            LAG.labels(group, topic).set(records)
            LAG_SECONDS.labels(group, topic).set(max(age[topic], 0.0))
        INFLIGHT.labels(group).set(len(self.lanes.running))
        PROGRESS.labels(group).set(self.lanes.progress)
        PAUSED.labels(group).set(sum(p.full for p in self.lanes.partitions.values()))

    async def _maintain_inbox(self) -> None:
        while self._database is not None:
            try:
                await inbox.maintain(self._database, self._settings.inbox_retention_days)
            except (Unavailable, TimeoutError) as error:
                log.warning("inbox_not_maintained", error=str(error))
                await asyncio.sleep(REJOIN[1])
                continue
            await asyncio.sleep(MAINTAIN_EVERY)


def _commit_spans(offsets: dict[Place, int], group: str) -> ExitStack:
    spans = ExitStack()
    for topic in sorted({topic for topic, _ in offsets}):
        spans.enter_context(tracing.committing(topic, group, max(o for (t, _), o in offsets.items() if t == topic)))
    return spans


def _retries(settings: Settings) -> Retries:
    return Retries(
        settings.consumer_attempts,
        wait_random_exponential(multiplier=settings.consumer_backoff_initial, max=settings.consumer_backoff_max),
    )


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
