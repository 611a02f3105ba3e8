"""Kafka → lanes: poll what there is room for, and get past what the client cannot even return.

After any exception of a poll the client's positions mean nothing (it may have dropped healthy records of other
partitions), so every partition is set back to our own. A record that breaks the client again and again is found
by polling its partition alone, one record at a time, and is dead-lettered as a pointer: its bytes never reach us.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
)

from eventing.clock import monotonic
from eventing.consumer import Consumer
from eventing.errors import Misconfigured, Overload
from eventing.event import Record
from eventing.lane import Place
from eventing.lanes import Lanes
from eventing.loose import Loose, OddName
from eventing.metrics import CONSUMED, LOST_RANGE
from eventing.parking import Parking
from eventing.port import Client, Start
from eventing.settings import Settings
from eventing.unreadable import Unreadable

POLL = 0.2  # seconds a poll waits for records
SMALL = 64  # records a poll may always add, or many partitions with small shares would be polled for ever
GLANCE = 0.02  # the same, while a partition is full: then those that have room are looked at, and not waited for
ALONE = 0.05  # the same, for a partition that is polled alone
FAILURES = 3  # polls that fail at one offset before its record counts as unreadable
UNREADABLE = (UnicodeDecodeError, CorruptRecordException, RecordTooLargeError, ValueError, IndexError)

log = structlog.get_logger()


class Intake:
    """The polling side of one member."""

    def __init__(
        self, client: Client, lanes: Lanes, consumer: Consumer, settings: Settings, parking: Parking | None
    ) -> None:
        self._parking = parking
        self._client = client
        self._lanes = lanes
        self._consumer = consumer
        self._settings = settings
        self._unplaced: set[Place] = set()
        self._room = asyncio.Event()
        lanes.on_room = self._room.set
        self._generation = 0  # of assignments
        self._loose = Loose()
        self.before_delivery: Callable[[], None] = lambda: None
        self.commit_first: Callable[[], Awaitable[None]] = _nothing
        self._suspects: dict[Place, int] = {}  # partitions polled alone, and how often their next record failed
        self.polled = monotonic()
        self.error: str | None = None

    def assigned(self, places: list[Place]) -> None:
        """Note new partitions; they are given a position before the next poll."""
        self._unplaced = set(places)
        self._generation += 1
        self._suspects.clear()
        self._room.set()

    def revoked(self) -> None:
        """Forget partitions that had no position yet."""
        self._unplaced.clear()

    async def step(self) -> None:
        """Poll once and queue what came.

        Raises:
            Misconfigured: see `Client.poll`.
        """
        try:
            waits = await self._placed() if self._unplaced else None
            self._loose.end()
            suspects = [place for place in self._ready() if place in self._suspects]
            await self._poll(0.0 if suspects else POLL)
            await self._poll_suspects(suspects)
            self.error = waits
        except NoOffsetForPartitionError:
            pass  # the client looked before we had placed the partition; nothing was lost
        except Misconfigured:
            raise
        except Exception as error:  # the client raises what a record contains; see the module's text
            self._failed(error)
        self.polled = monotonic()

    async def _placed(self) -> str | None:
        """Give new partitions a position; returns why that waits. We poll meanwhile, or the group gives us up."""
        try:
            await self._place()
        except (Overload, KafkaError, OSError, TimeoutError) as error:
            reason = f"partitions wait: {error or type(error).__name__}"
            if self.error is None:
                log.warning("partitions_wait", group=self._consumer.group, reason=reason)
            return reason
        return None

    async def _place(self) -> None:
        generation, places = self._generation, sorted(self._unplaced)
        if self._parking is not None:
            await self._parking.load()
        latest = self._consumer.topics if self._consumer.start == "latest" else ()  # never what comes back to us
        starts = await self._client.starts(places, latest)
        if self._parking is not None:
            await self._parking.begin(starts)
        if generation != self._generation:
            return  # what we asked about has been given away meanwhile, and perhaps back: ask again
        for place in places:
            if place in self._unplaced:
                self._begin(place, starts[place])
                self._unplaced.discard(place)
        if any(partition.committed < 0 for partition in self._lanes.partitions.values()):
            await self.commit_first()

    def _begin(self, place: Place, start: Start) -> None:
        self._client.seek(place, start.offset)
        partition = self._lanes.open(place, start.offset, start.note)
        if start.fresh and partition.first:
            partition.committed = -1  # so that where it began is committed, before anything of it is
        if start.lost:
            LOST_RANGE.labels(place[0], self._consumer.group).inc(start.lost)
            log.error("records_expired_unread", topic=place[0], partition=place[1], records=start.lost)
        if start.cut:
            log.error("log_was_cut", topic=place[0], partition=place[1], offset=start.offset, records=start.cut)

    def _ready(self) -> list[Place]:
        return self._lanes.admit(self._settings.consumer_max_records, self._settings.consumer_max_bytes, monotonic())

    async def _poll(self, seconds: float) -> None:
        """Poll every partition that has room, but for suspects."""
        self._room.clear()
        places = [place for place in self._ready() if place not in self._suspects]
        if not places and seconds:
            await self._client.poll([], limit=1, seconds=0.0)  # takes as long as a rebalance, and may bring partitions
            await self._wait_for_room(seconds)
            return
        most = self._settings.consumer_max_records
        limit = min(max(1, most - self._lanes.records), max(SMALL, self._lanes.share(most)))
        full = any(partition.full for partition in self._lanes.partitions.values())
        # A poll cannot be cut short: one that waits for an empty partition would keep a full one waiting that has room.
        found = await self._client.poll(places, limit=limit, seconds=0.0 if full else seconds)
        self.before_delivery()
        for place, records in found.items():
            self._deliver(place, records)
        self._step_over(places)
        if full and seconds and not any(found.values()):
            await self._wait_for_room(GLANCE)

    def _step_over(self, places: list[Place]) -> None:
        """Pass what holds no record for us at the end of partitions, or a commit would never name it."""
        for place in places:
            partition = self._lanes.partitions.get(place)
            if partition is not None and not partition.pending and (position := self._client.position(place)):
                self._lanes.passed(place, position)

    async def _wait_for_room(self, seconds: float) -> None:
        """Wait until a partition is there and has room; a poll could not be cut short for it."""
        try:
            async with asyncio.timeout(seconds):
                await self._room.wait()
        except TimeoutError:
            return

    def _deliver(self, place: Place, records: Sequence[Record]) -> int:
        CONSUMED.labels(place[0], self._consumer.group).inc(len(records))
        return self._lanes.deliver(place, map(_spelled, records) if self._loose.used else records)

    async def _poll_suspects(self, suspects: list[Place]) -> None:
        """Poll each suspect alone, a record at a time, until it is past the place where it failed."""
        for place in suspects:
            try:
                found = await self._client.poll([place], limit=1, seconds=ALONE)
            except UNREADABLE as error:
                self._suspect(place, error)
                continue
            if self._deliver(place, found.get(place, ())) or self._caught_up(place):
                self._suspects.pop(place, None)

    def _caught_up(self, place: Place) -> bool:
        position, end = self._client.position(place), self._client.end(place)
        return place not in self._lanes.partitions or (end is not None and position is not None and position >= end)

    def _suspect(self, place: Place, error: Exception) -> None:
        """Count a failure at a partition's next record; after some, queue a stand-in and step over it."""
        partition = self._lanes.partitions.get(place)
        if partition is None or place not in self._suspects:
            return  # given away while we polled
        self._suspects[place] += 1
        if self._suspects[place] >= FAILURES:
            reason = f"the client cannot read this record: {type(error).__name__}: {error}"
            log.error(
                "record_unreadable",
                topic=place[0],
                partition=place[1],
                offset=partition.position,
                reason=reason,
            )
            self._lanes.deliver(place, [Unreadable(*place, partition.position, reason)])
            self._suspects[place] = 0
        self._client.seek(place, partition.position)

    def _failed(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if self.error is None:
            log.warning("poll_failed", group=self._consumer.group, reason=reason)
        self.error = reason
        if isinstance(error, OffsetOutOfRangeError):
            self._lost(error)
        elif isinstance(error, UnicodeDecodeError) and not self._loose.on:
            self._loose.begin()
        elif isinstance(error, UNREADABLE) or not isinstance(error, (KafkaError, OSError, TimeoutError)):
            self._suspects = dict.fromkeys(self._lanes.partitions, 0)
        for place, partition in self._lanes.partitions.items():
            self._client.seek(place, partition.position)

    def _lost(self, error: OffsetOutOfRangeError) -> None:
        """Records expired before we read them: begin again where the partition does, and say so loudly."""
        for tp in error.args[0]:
            place = (tp.topic, tp.partition)
            log.error("offset_out_of_range", topic=tp.topic, partition=tp.partition, offset=error.args[0][tp])
            self._lanes.close(place)
            self._unplaced.add(place)


async def _nothing() -> None:
    return


def _spelled(record: Record) -> Record:
    """Return a record that may be handled, or a stand-in for one with header names that are not UTF-8."""
    odd = next((name for name, _ in record.headers if isinstance(name, OddName)), None)
    if odd is None:
        return record
    known = [(str(name), value) for name, value in record.headers]
    reason = f"the header name {odd} is not UTF-8"
    place = (record.topic, record.partition, record.offset)
    return Unreadable(*place, reason, record.timestamp, record.key, record.value, known, pointer=False)
