"""A broker in memory: topics with partitions and gaps, consumer groups with generations and fenced commits."""

import asyncio
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from aiokafka.errors import CorruptRecordException, OffsetOutOfRangeError

from eventing.clock import wall
from eventing.errors import SendFailed
from eventing.headers import Headers
from eventing.lane import Place
from eventing.testing.group import Group
from eventing.testing.process import survive


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """A record as a client returns it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(slots=True)
class Log:
    """One partition: its records, the offset after the last, and the first that still exists."""

    records: list[MemoryRecord] = field(default_factory=list)
    end: int = 0
    start: int = 0
    spoiled: set[int] = field(default_factory=set)  # offsets of records that no client can read

    def read(self, position: int, limit: int) -> tuple[list[MemoryRecord], int]:
        """Return records from `position` on, and the position after them: gaps behind the last are passed too.

        Raises:
            OffsetOutOfRangeError: retention has deleted what was at `position`, or nothing ever was.
            CorruptRecordException: one of the records is spoiled.
        """
        if not self.start <= position <= self.end:
            raise OffsetOutOfRangeError
        found = [record for record in self.records if record.offset >= position]
        if self.spoiled and any(record.offset in self.spoiled for record in found[:limit]):
            raise CorruptRecordException
        if len(found) <= limit:
            return found, self.end
        return found[:limit], found[limit - 1].offset + 1


Fault = Callable[[str, object], Awaitable[None]]
"""Awaited before and after what a client does, with a word for it and the `Member`; may wait, raise, or crash it.

The words: start, stop, starts, started, poll, commit, committed, revoke, assign, send, sent.
"""


class Broker:
    """Topics and groups in memory."""

    def __init__(self, *, fault: Fault | None = None) -> None:
        """Describe the broker.

        Args:
            fault: what may go wrong; see `Fault`.
        """
        self.logs: dict[str, list[Log]] = {}
        self.max_bytes: dict[str, int] = {}  # of a record of a topic, key and headers included; none means no limit
        self.points: Counter[str] = Counter()  # awaits that were passed, by their word
        self.appended = asyncio.Event()  # replaced by the next append
        self._groups: dict[str, Group] = {}
        self._fault = fault

    def create(self, topic: str, partitions: int) -> None:
        """Create a topic, or leave it as it is; groups that wait for it share it out."""
        if topic not in self.logs:
            self.logs[topic] = [Log() for _ in range(partitions)]
            for group in self._groups.values():
                group.appeared(topic)

    def group(self, name: str) -> Group:
        """Return a consumer group; it begins to exist when somebody asks."""
        return self._groups.setdefault(name, Group(self._places_of))

    def log(self, place: Place) -> Log:
        """Return one partition."""
        return self.logs[place[0]][place[1]]

    def records(self, topic: str) -> list[MemoryRecord]:
        """Return every record of a topic, partition by partition."""
        return [record for log in self.logs.get(topic, []) for record in log.records]

    def append(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
    ) -> MemoryRecord:
        """Write a record; its partition follows from its key when none is named.

        Raises:
            SendFailed: there is no such topic, or the record is too large for it.
        """
        if topic not in self.logs:
            raise SendFailed(f"topic {topic} does not exist", final=True, reason="UnknownTopicOrPartitionError")
        size = len(key or b"") + len(value or b"") + sum(len(name) + len(told or b"") for name, told in headers)
        if size > self.max_bytes.get(topic, size):
            raise SendFailed(f"{topic}: {size} bytes are too many", final=True, reason="MessageSizeTooLargeError")
        logs = self.logs[topic]
        number = (zlib.crc32(key or b"") if partition is None else partition) % len(logs)
        log = logs[number]
        record = MemoryRecord(topic, number, log.end, int(wall() * 1000), key, value, tuple(headers))
        log.records.append(record)
        self._grow(log, 1)
        return record

    def skip(self, place: Place, offsets: int = 1) -> None:
        """Leave offsets without a record, as transaction markers, aborted transactions and compaction do."""
        self._grow(self.log(place), offsets)

    def _grow(self, log: Log, offsets: int) -> None:
        log.end += offsets
        appended, self.appended = self.appended, asyncio.Event()
        appended.set()

    def expire(self, place: Place, before: int) -> None:
        """Delete the records before an offset, as retention does."""
        log = self.log(place)
        log.start = min(max(before, log.start), log.end)
        log.records = [record for record in log.records if record.offset >= log.start]

    def spoil(self, record: MemoryRecord) -> None:
        """Make a record unreadable for every client, as a checksum that does not fit does."""
        self.log((record.topic, record.partition)).spoiled.add(record.offset)

    async def at(self, point: str, who: object) -> None:
        """Pass a point where something may go wrong."""
        survive()
        self.points[point] += 1
        if self._fault is not None:
            await self._fault(point, who)
            survive()

    def _places_of(self, topics: Sequence[str]) -> list[Place]:
        return [(topic, number) for topic in topics for number in range(len(self.logs.get(topic, ())))]


class MemorySender:
    """Sends records to a broker in memory."""

    def __init__(self, broker: Broker, who: object = None) -> None:
        self._broker = broker
        self._who = who

    async def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Headers, partition: int | None = None
    ) -> None:
        """Send one record.

        Raises:
            SendFailed: see `Broker.append`.
        """
        await self._broker.at("send", self._who)
        self._broker.append(topic, value, key=key, headers=headers, partition=partition)
        await self._broker.at("sent", self._who)
