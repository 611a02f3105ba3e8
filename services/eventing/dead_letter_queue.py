"""A dead-letter topic between its watermark and its end: what waits there, and what is done.

The watermark is the offset which the group `<topic>.redrive` has committed; what was sent back ahead of it is in the
commit's metadata, so that none is sent twice by mistake.
"""

import asyncio
from array import array
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from eventing.errors import EventingError, Unavailable
from eventing.event import Record
from eventing.letter import DeadLetter
from eventing.settings import Settings
from eventing.watermark import MAX_METADATA, Watermark

Spot = tuple[int, int]  # partition and offset in the dead-letter topic

_NEAR = 1000  # offsets that are read over rather than sought across: a seek drops what is already fetched
_POLL = 500  # records taken at once


class DeadLetterQueue:
    """The dead letters that waited when it was opened."""

    def __init__(self, topic: str, consumer: AIOKafkaConsumer, limit: float) -> None:
        self.topic = topic
        self._consumer = consumer
        self._limit = limit  # seconds for each answer
        self._ends: dict[TopicPartition, int] = {}
        self._marks: dict[TopicPartition, Watermark] = {}
        self._seen: dict[TopicPartition, tuple[int, str]] = {}  # what was committed when we looked last
        self._waiting: dict[TopicPartition, array[int]] = {}  # offsets of the letters, ascending

    @classmethod
    @asynccontextmanager
    async def open(cls, topic: str, settings: Settings) -> AsyncIterator["DeadLetterQueue"]:
        """Open a dead-letter topic; its end is fixed now, so a redrive never chases its own failures.

        Raises:
            Unavailable: no broker answered.
            EventingError: there is no such topic, or a version of the future has redriven it.
        """
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap,
            group_id=f"{topic}.redrive",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            request_timeout_ms=int(settings.kafka_request_timeout * 1000),
            fetch_max_wait_ms=100,  # a seek waits for the fetch that is under way
        )
        queue = cls(topic, consumer, settings.kafka_request_timeout)
        try:
            async with queue._answering(f"Kafka at {settings.kafka_bootstrap} does not answer"):
                await consumer.start()
                await queue._locate()
            yield queue
        finally:
            await consumer.stop()

    @asynccontextmanager
    async def _answering(self, otherwise: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._limit):
                yield
        except (KafkaError, OSError, TimeoutError, UnicodeDecodeError) as error:
            raise Unavailable(f"{otherwise}: {error or f'nothing within {self._limit:g} s'}") from error

    async def _locate(self) -> None:
        cluster = await self._consumer._client.fetch_all_metadata()  # noqa: SLF001  # a topic may be unknown: no error wanted
        partitions = cluster.partitions_for_topic(self.topic)
        if not partitions:
            raise EventingError(f"topic {self.topic} does not exist; names are <topic>.<group>.dlq")
        asked = [TopicPartition(self.topic, number) for number in sorted(partitions)]
        self._consumer.assign(asked)
        self._consumer.pause(*asked)  # what is not asked for is not fetched either: memory is that of one partition
        first = await self._consumer.beginning_offsets(asked)
        ends = await self._consumer.end_offsets(asked)
        self._ends = {tp: ends[tp] for tp in asked}
        self._seen = await self._committed(asked)
        for tp in asked:
            offset, metadata = self._seen[tp]
            self._marks[tp] = Watermark.read(offset, metadata).after([(0, first[tp] - 1)])

    async def _committed(self, asked: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        asked = list(asked)
        found = await self._consumer._coordinator.fetch_committed_offsets(asked)  # noqa: SLF001  # the public call drops the metadata
        return {tp: (max(found[tp].offset, 0), found[tp].metadata) if tp in found else (0, "") for tp in asked}

    async def letters(self) -> AsyncGenerator[DeadLetter, None]:
        """Iterate over what waits, partition by partition, in order, holding a few hundred at most.

        Raises:
            Unavailable: the broker stopped answering.
        """
        for tp, end in self._ends.items():
            waiting = array("q")
            position = self._marks[tp].offset
            self._turn_to(tp)
            self._consumer.seek(tp, position)
            while position < end:
                records, position = await self._poll(tp, _POLL)
                for record in records:
                    if record.offset < end and record.offset not in self._marks[tp]:
                        waiting.append(record.offset)
                        yield DeadLetter.read(record)
            self._waiting[tp] = waiting

    async def fetch(self, spots: Iterable[Spot]) -> dict[Spot, DeadLetter]:
        """Return the letters at the spots; those whose retention has ended meanwhile are missing.

        Raises:
            Unavailable: the broker stopped answering.
        """
        by_partition: defaultdict[int, list[int]] = defaultdict(list)
        for partition, offset in sorted(spots):
            by_partition[partition].append(offset)
        found: dict[Spot, DeadLetter] = {}
        for partition, offsets in by_partition.items():
            async for record in self._fetch(TopicPartition(self.topic, partition), deque(offsets)):
                found[partition, record.offset] = DeadLetter.read(record)
        return found

    async def _fetch(self, tp: TopicPartition, wanted: deque[int]) -> AsyncIterator[Record]:
        self._turn_to(tp)
        async with self._answering(f"{self.topic}/{tp.partition} has no position"):
            position = await self._consumer.position(tp)
        while wanted:
            if not position <= wanted[0] < position + _NEAR:
                self._consumer.seek(tp, wanted[0])
            records, position = await self._poll(tp, min(_POLL, wanted[-1] - wanted[0] + 1))
            for record in records:
                while wanted and wanted[0] < record.offset:
                    wanted.popleft()  # its retention has ended
                if wanted and wanted[0] == record.offset:
                    wanted.popleft()
                    yield record

    def _turn_to(self, tp: TopicPartition) -> None:
        """Fetch from this partition, and from no other."""
        if tp in self._consumer.paused():
            self._consumer.pause(*self._ends)
            self._consumer.resume(tp)

    async def _poll(self, tp: TopicPartition, most: int) -> tuple[list[Record], int]:
        """Return the next records, none if there were only markers of transactions, and the position after them."""
        async with self._answering(f"{self.topic}/{tp.partition} cannot be read on"):
            before = await self._consumer.position(tp)
            while True:
                found: list[Record] = (await self._consumer.getmany(tp, timeout_ms=500, max_records=most)).get(tp, [])
                position: int = await self._consumer.position(tp)
                if found or position != before:
                    return found, position

    def fits(self, spots: Iterable[Spot]) -> bool:
        """Tell whether progress could be committed once the letters at these spots are done."""
        return all(len(mark.metadata) <= MAX_METADATA for mark in self._after(spots).values())

    async def done(self, spots: Iterable[Spot]) -> None:
        """Commit that the letters at these spots are done, in one request.

        Raises:
            Unavailable: the commit was not acknowledged; these letters still wait.
            EventingError: somebody else has redriven this topic meanwhile; these letters still wait.
        """
        marks = self._after(spots)
        if not marks:
            return
        async with self._answering(f"{self.topic}: progress was not committed, a few letters may be sent again"):
            if await self._committed(marks) != {tp: self._seen[tp] for tp in marks}:
                raise EventingError(
                    f"another redrive of {self.topic} is under way; wait until it is done, then run again"
                )
            commits = {tp: (mark.offset, mark.metadata) for tp, mark in marks.items()}
            await self._consumer.commit(commits)
        self._marks |= marks
        self._seen |= commits

    def _after(self, spots: Iterable[Spot]) -> dict[TopicPartition, Watermark]:
        ranges: defaultdict[TopicPartition, list[tuple[int, int]]] = defaultdict(list)
        for partition, offset in spots:
            tp = TopicPartition(self.topic, partition)
            ranges[tp].append((offset, self._next(tp, offset) - 1))
        return {tp: self._marks[tp].after([*done, (0, self._waiting[tp][0] - 1)]) for tp, done in ranges.items()}

    def _next(self, tp: TopicPartition, offset: int) -> int:
        """Return the offset of the letter after this one: a gap between the two is done with the first."""
        after = bisect_right(self._waiting[tp], offset)
        return self._waiting[tp][after] if after < len(self._waiting[tp]) else self._ends[tp]
