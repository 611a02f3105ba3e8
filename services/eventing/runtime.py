"""A consumer at work: joins, polls, dispatches, commits what is finished, and hands over cleanly.

Only finished work is committed: the watermark of a partition, never a position. When partitions go to another
member, running handlers are waited for and committed first; what is late after that changes nothing here.
"""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import structlog
from aiokafka.errors import KafkaError
from tenacity import wait_random_exponential

from eventing import commit, inbox
from eventing.attempt import Attempts
from eventing.batch import Batches
from eventing.breaker import Breaker
from eventing.client import KafkaClient
from eventing.clock import monotonic
from eventing.commit import Committer
from eventing.consumer import Consumer
from eventing.database import Database
from eventing.dead_letter import DeadLetters
from eventing.dispatch import Dispatcher
from eventing.errors import Unavailable
from eventing.intake import Intake
from eventing.lane import Place
from eventing.lanes import Lanes
from eventing.metrics import DRAIN, REBALANCES
from eventing.outcome import Ladder, Retries
from eventing.parking import Parking
from eventing.port import Client, Fence, Listener, Sender
from eventing.retry_topic import RetryTopics
from eventing.settings import Settings
from eventing.settle import Settlement
from eventing.subscription import all_topics, written_topics
from eventing.watch import Watch

REJOIN = (0.2, 5.0)  # seconds before trying to join again: first, at most
DLQ_PATIENCE = 60.0  # seconds without a dead letter getting through before readiness says so
MAINTAIN_EVERY = 3600.0  # seconds between looks at the inbox's partitions
THREADS = 200  # of sync handlers, at most

Connect = Callable[[Listener, Listener], Client]  # with what is awaited when partitions are assigned, and revoked

log = structlog.get_logger()


class Runtime:
    """Runs one `Consumer` in this process."""

    def __init__(
        self,
        consumer: Consumer,
        settings: Settings,
        sender: Sender,
        provided: dict[type, Any],
        *,
        connect: Connect | None = None,
    ) -> None:
        """Describe the runtime.

        Args:
            consumer: what the service author declared.
            settings: of this process.
            sender: writes dead letters and retries.
            provided: open resources by type; see `provide`.
            connect: makes a member of the group; None means Kafka.
        """
        self.lanes = Lanes(ordered=consumer.ordering == "key")
        self.state = "starting"
        self._consumer = consumer
        self._settings = settings
        self._database: Database | None = provided.get(Database)
        self._threads = _threads(consumer, settings)
        self._parking = Parking(provided[Fence]) if consumer.exhausted == "park_key" else None
        self._connect = connect or _to_kafka(settings, consumer.group)
        self.settlement = Settlement(
            consumer.group,
            self.lanes,
            dead_letters=DeadLetters(sender, consumer.group),
            retry_topics=RetryTopics(sender, consumer.group),
            breaker=Breaker(share=settings.consumer_breaker_share, consecutive=settings.consumer_breaker_row),
            parking=self._parking,
        )
        works = Attempts if consumer.batch is None else Batches
        ladder = Ladder(consumer.retries or retries_of(settings), consumer.exhausted, consumer.tiers)
        work = works(consumer, ladder, provided, threads=self._threads, parking=self._parking)
        self.dispatcher = Dispatcher(self.lanes, self.settlement, work, batch=consumer.batch)
        self.client: Client | None = None
        self.intake: Intake | None = None
        self.watch: Watch | None = None
        self._committer = Committer(consumer.group, self.lanes)
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
            self.settlement.close()
            if self._threads is not None:
                self._threads.shutdown(wait=False, cancel_futures=True)

    def alive(self) -> str | None:
        """Return why this process should be restarted, None when it should not: measured by progress, not by pings."""
        if self.intake is None or self.watch is None or self.state.startswith("cannot reach"):
            return None  # Kafka is away: restarting the fleet does not bring it back
        return self.watch.progress.dead(monotonic(), self.intake.polled)

    async def check_group(self) -> None:
        """Raise unless this member consumes; for readiness."""
        if self.state != "consuming" and not self.state.startswith("no partitions"):
            raise Unavailable(self.state)
        needed = [*self._consumer.topics, *written_topics(self._consumer)]
        if self.client and (missing := await self.client.missing(needed)):
            raise Unavailable(f"topic {', '.join(missing)} does not exist; create it, or let the operator do so")
        if self.intake and self.intake.error:
            raise Unavailable(self.intake.error)

    async def check_handlers(self) -> None:
        """Raise while a dependency of the handlers is down, or what they gave up cannot be written; for readiness."""
        if reason := self.settlement.gate.reason or self.settlement.breaker.reason:
            raise Unavailable(reason)
        since = self.settlement.unwritten_since
        if since is not None and monotonic() - since > DLQ_PATIENCE:
            raise Unavailable(f"dead letters have not been written for {monotonic() - since:.0f} s")

    async def _session(self, stop: asyncio.Event) -> bool:
        """Be one member of the group, from joining to leaving; False when it could not join."""
        self.client = client = self._connect(self._assigned, self._revoked)
        self.intake = Intake(client, self.lanes, self._consumer, self._settings, self._parking)
        try:
            await client.start(all_topics(self._consumer))
        except (KafkaError, OSError, TimeoutError) as error:
            self.state = f"cannot reach Kafka: {error or 'no answer in time'}"
            log.warning("join_failed", group=self._consumer.group, error=self.state)
            await self._leave(client)
            return False
        self.state = "joining"
        limit = self._settings.consumer_session_timeout
        self.watch = Watch(self._consumer.group, self.lanes, self.settlement, client, session=limit)
        self.intake.before_delivery = self.watch.mind_the_session  # a process that was frozen learns it here first
        self.intake.commit_first = partial(self._committer.commit, client)
        beside = [asyncio.create_task(work) for work in self._beside(client, self.watch)]
        self._tasks += beside
        try:
            await self._poll(stop, client, self.intake)
        finally:
            for task in beside:
                self._tasks.remove(task)
                task.cancel()
            await asyncio.wait(beside)
            self.state = "leaving"
            await self._revoked(list(self.lanes.partitions))
            await self._leave(client)
        return True

    def _beside(self, client: Client, watch: Watch) -> list[Coroutine[Any, Any, None]]:
        """Return what a member does beside polling."""
        return [self._commit_regularly(client), watch.run(), *([self._parking.watch()] if self._parking else [])]

    async def _leave(self, client: Client) -> None:
        """Stop a client. One that cannot even stop is given up: the group misses it, and this process goes on."""
        try:
            await client.stop()
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("leave_failed", group=self._consumer.group, error=f"{type(error).__name__}: {error}")

    async def _poll(self, stop: asyncio.Event, client: Client, intake: Intake) -> None:
        while not stop.is_set() and not client.broken:
            self._check_tasks()
            await intake.step()
            if self.lanes.waiting or self.settlement.shut:  # what is shut opens at a time, without an event
                self.dispatcher.wake()
            if self._committer.due:
                await self._committer.commit(client, noted=False)
            if intake.error is not None:
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
        started = monotonic()
        if not await self.dispatcher.drained(self._settings.consumer_drain_timeout):
            log.warning("drain_incomplete", group=self._consumer.group, running=len(self.lanes.running))
        if self.client is not None:
            await self._committer.commit(self.client)
        for place in list(self.lanes.partitions):
            self.lanes.close(place)
        self.settlement.unwritten_since = None  # whoever has the partitions now tries
        DRAIN.labels(self._consumer.group).observe(monotonic() - started)

    async def _commit_regularly(self, client: Client) -> None:
        while True:
            await asyncio.sleep(commit.EVERY)
            await self._committer.commit(client)

    async def _maintain_inbox(self) -> None:
        while self._database is not None:
            try:
                await inbox.maintain(self._database, self._settings.inbox_retention_days)
            except (Unavailable, TimeoutError) as error:
                log.warning("inbox_not_maintained", error=str(error))
                await asyncio.sleep(REJOIN[1])
                continue
            await asyncio.sleep(MAINTAIN_EVERY)


def retries_of(settings: Settings) -> Retries:
    """Return the retries of the settings: full jitter below a doubling ceiling."""
    wait = wait_random_exponential(multiplier=settings.consumer_backoff_initial, max=settings.consumer_backoff_max)
    return Retries(settings.consumer_attempts, wait)


def _to_kafka(settings: Settings, group: str) -> Connect:
    return lambda assigned, revoked: KafkaClient(settings, group, on_assigned=assigned, on_revoked=revoked)


def _threads(consumer: Consumer, settings: Settings) -> ThreadPoolExecutor | None:
    """Return as many threads as there may be sync handlers under way; asyncio's own pool has few on a small machine."""
    if not any(handler.threaded for handler in consumer.all_handlers):
        return None
    return ThreadPoolExecutor(min(settings.consumer_concurrency, THREADS), thread_name_prefix=consumer.group)


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
