"""Where one event is and has been, from what is always there: the outbox, the topics, the groups' offsets, the inbox.

Rows of the outbox are deleted once they are sent, so the topics are read, from the moment an id of version 7 names.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from eventing import headers
from eventing.database import Database
from eventing.errors import Unavailable
from eventing.event import RETRY, Record
from eventing.inbox import born
from eventing.letter import DeadLetter
from eventing.settings import Settings
from eventing.sql import load

SLACK = timedelta(seconds=60)  # by which the clocks of a producer and of the broker may differ
SCAN_WITHIN = 120.0  # seconds for all topics together
CLOSE_WITHIN = 5.0  # seconds for a client to close

_SQL = load("eventing", "trail")


@dataclass(frozen=True)
class Stop:
    """A record of the event: on its topic, in a retry or redrive topic, or as a dead letter."""

    at: datetime
    letter: DeadLetter  # any record can be read as one: a place, bytes and headers as text

    @property
    def kind(self) -> str:
        """`published`, `retry`, `dead letter` or `redrive`."""
        topic = self.letter.record.topic
        if topic.endswith(".dlq"):
            return "dead letter"
        return "redrive" if topic.endswith(".redrive") else "retry" if RETRY in topic else "published"

    @property
    def place(self) -> str:
        """Topic, partition and offset."""
        record = self.letter.record
        return f"{record.topic}/{record.partition}/{record.offset}"

    @property
    def trace_id(self) -> str:
        """The trace of this hop; empty without one."""
        return trace_of(self.letter.known.get(headers.TRACEPARENT))


@dataclass(frozen=True)
class Waiting:
    """A row of the outbox; `reason` when its key is blocked."""

    topic: str
    since: datetime
    key: str | None
    reason: str | None


@dataclass(frozen=True)
class Reader:
    """A group that reads the topic, and by how many records its committed offset is before the event; 0 is past it."""

    group: str
    before: int


def trace_of(traceparent: str | None) -> str:
    """Return the trace id of a traceparent, as a trace view takes it."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) >= 4 else ""


async def stored(database: Database, event_id: str) -> tuple[list[Waiting], list[str]]:
    """Return the event's rows in the outbox, and the groups that have handled it in this database."""
    made = born(event_id)
    if made is None:
        return [], []
    rows = await database.fetch(_SQL["outbox"], uuid.UUID(event_id))
    groups = await database.fetch(_SQL["inbox"], event_id, made.date())
    waiting = [Waiting(row["topic"], row["created_at"], row["aggregateid"], row["reason"]) for row in rows]
    return waiting, [row["grp"] for row in groups]


async def stops(settings: Settings, event_id: str, topics: Iterable[str] = ()) -> list[Stop]:
    """Return every record of the event, the oldest first.

    Args:
        settings: where the broker is.
        event_id: its `ce_id`, or `<topic>-<partition>-<offset>` of a record without one.
        topics: where to look; every topic when empty.

    Raises:
        Unavailable: the broker did not answer, or the topics are too long to read in time.
    """
    made = born(event_id)
    since = 0 if made is None else int((made - SLACK).timestamp() * 1000)
    async with _consumer(settings) as consumer:
        cluster = await consumer._client.fetch_all_metadata()  # noqa: SLF001  # the public calls know subscribed topics only
        names = set(topics) or {name for name in cluster.topics() if not name.startswith("__")}
        places = [TopicPartition(name, n) for name in names for n in cluster.partitions_for_topic(name) or ()]
        starts = await _starts(consumer, places, since)
        found = [stop async for stop in _matching(consumer, starts, event_id)]
    return sorted(found, key=lambda stop: stop.at)


@asynccontextmanager
async def _consumer(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap, enable_auto_commit=False, isolation_level="read_committed"
    )
    try:
        async with asyncio.timeout(SCAN_WITHIN):
            await consumer.start()
            yield consumer
    except (KafkaError, OSError, TimeoutError) as error:
        reason = error or f"not read within {SCAN_WITHIN:g} s; name the topics with --topic"
        raise Unavailable(f"Kafka at {settings.kafka_bootstrap}: {reason}") from error
    finally:
        await _closed(consumer.stop)


async def _starts(
    consumer: AIOKafkaConsumer, places: list[TopicPartition], since: int
) -> dict[TopicPartition, tuple[int, int]]:
    """Return first offset at or after `since` (milliseconds) and end of each partition that has something there."""
    if not places:
        return {}
    consumer.assign(places)
    ends = await consumer.end_offsets(places)
    found = await consumer.offsets_for_times(dict.fromkeys(places, since))
    return {tp: (at.offset, ends[tp]) for tp, at in found.items() if at is not None and at.offset < ends[tp]}


async def _matching(
    consumer: AIOKafkaConsumer, starts: dict[TopicPartition, tuple[int, int]], event_id: str
) -> AsyncIterator[Stop]:
    for tp, (start, end) in starts.items():
        consumer.assign([tp])
        consumer.seek(tp, start)
        while await consumer.position(tp) < end:
            records = (await consumer.getmany(tp, timeout_ms=500, max_records=1000)).get(tp, [])
            for record in records:
                if _is(record, event_id):
                    yield Stop(datetime.fromtimestamp(record.timestamp / 1000, UTC), DeadLetter.read(record))


def _is(record: Record, event_id: str) -> bool:
    """Tell whether a record is the event, by its id or, without one, by the place it was first read at."""
    known = dict(reversed(list(record.headers)))
    if (named := known.get(headers.ID)) is not None:
        return named == event_id.encode()
    place = (headers.ORIGIN_TOPIC, headers.ORIGIN_PARTITION, headers.ORIGIN_OFFSET)
    origin = [known.get(name, b"").decode(errors="replace") for name in place]
    first = origin if all(origin) else [record.topic, str(record.partition), str(record.offset)]
    return "-".join(first) == event_id


async def readers(settings: Settings, record: Record) -> list[Reader]:
    """Return the groups that have committed offsets for the record's partition, by name.

    Raises:
        Unavailable: the broker did not answer.
    """
    place = TopicPartition(record.topic, record.partition)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    try:
        async with asyncio.timeout(SCAN_WITHIN):
            await admin.start()
            groups = sorted(group for group, _ in await admin.list_consumer_groups())
            found = {group: await admin.list_consumer_group_offsets(group, partitions=[place]) for group in groups}
    except (KafkaError, OSError, TimeoutError) as error:
        raise Unavailable(f"Kafka at {settings.kafka_bootstrap} does not tell its groups: {error}") from error
    finally:
        await _closed(admin.close)
    committed = {group: offsets[place].offset for group, offsets in found.items() if place in offsets}
    return [Reader(group, max(0, record.offset + 1 - offset)) for group, offset in committed.items() if offset >= 0]


async def _closed(close: Callable[[], Awaitable[None]]) -> None:
    """Close a client; without a broker it may hang, and nothing is lost by leaving it."""
    with suppress(TimeoutError, KafkaError, OSError):
        await asyncio.wait_for(close(), CLOSE_WITHIN)
