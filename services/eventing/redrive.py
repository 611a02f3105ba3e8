"""Dead letters → consumer: list them, show them, and send them back to the group that gave them up.

A dead-letter topic is read from its watermark: the offset the group `<topic>.redrive` has committed. Letters sent
back ahead of it are remembered in the commit's metadata, so that none is sent twice by mistake.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from eventing import headers, tracing
from eventing.dead_letter import POINTER, redrive_topic_of
from eventing.errors import EventingError, Unavailable
from eventing.event import Record
from eventing.producer import Producer
from eventing.settings import Settings

MAX_REDRIVES = 3  # a letter that came back this often stays, and is reported
MAX_AHEAD = 3000  # bytes of offsets remembered ahead of a watermark; Kafka takes 4096 of metadata


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter: the record in the dead-letter topic, and what its headers say."""

    record: Record
    known: dict[str, str]

    @property
    def id(self) -> str:
        """The same for every delivery of the same record to the same group."""
        return self.known.get(headers.DLQ_ID, "")

    @property
    def pointer(self) -> bool:
        """True when it was too large for a letter: its body is where it came from, and there is nothing to send."""
        return self.known.get(headers.DISPOSITION, "").endswith(POINTER)

    @property
    def redrives(self) -> int:
        """How often it has been sent back."""
        count = self.known.get(headers.REDRIVE_COUNT, "0")
        return int(count) if count.isdigit() else 0


@dataclass(slots=True)
class Redriven:
    """What a redrive did: letters sent back, not asked for, and kept: they came back too often, or are pointers."""

    id: str
    sent: int = 0
    unmatched: int = 0
    kept: int = 0


class DeadLetterQueue:
    """A dead-letter topic between its watermark and its end, as of when it was opened."""

    def __init__(self, topic: str, consumer: AIOKafkaConsumer) -> None:
        self.topic = topic
        self._consumer = consumer
        self._watermarks: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._ahead: dict[TopicPartition, set[int]] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, topic: str, settings: Settings) -> AsyncIterator["DeadLetterQueue"]:
        """Open a dead-letter topic; its end is fixed now, so a redrive never chases its own failures.

        Raises:
            Unavailable: no broker answered.
            EventingError: there is no such topic.
        """
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap,
            group_id=f"{topic}.redrive",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            request_timeout_ms=int(settings.kafka_request_timeout * 1000),
        )
        try:
            async with asyncio.timeout(settings.kafka_request_timeout):
                await consumer.start()
                queue = cls(topic, consumer)
                await queue._locate()
        except (KafkaError, OSError, TimeoutError) as error:
            await consumer.stop()
            raise Unavailable(f"Kafka at {settings.kafka_bootstrap} does not answer: {error}") from error
        except EventingError:
            await consumer.stop()
            raise
        try:
            yield queue
        finally:
            await consumer.stop()

    async def _locate(self) -> None:
        cluster = await self._consumer._client.fetch_all_metadata()  # noqa: SLF001  # a topic may be unknown: no error wanted
        partitions = cluster.partitions_for_topic(self.topic)
        if not partitions:
            raise EventingError(f"topic {self.topic} does not exist; names are <topic>.<group>.dlq")
        asked = [TopicPartition(self.topic, number) for number in sorted(partitions)]
        self._consumer.assign(asked)
        first = await self._consumer.beginning_offsets(asked)
        self._ends = await self._consumer.end_offsets(asked)
        committed = await self._consumer._coordinator.fetch_committed_offsets(asked)  # noqa: SLF001  # the public call drops the metadata
        for tp in asked:
            known: OffsetAndMetadata | None = committed.get(tp)
            self._watermarks[tp] = max(first[tp], known.offset if known else 0)
            text = known.metadata if known else ""
            self._ahead[tp] = {int(n) for n in text.removeprefix("v1:").split(",") if n.isdigit()}

    async def letters(self) -> AsyncIterator[DeadLetter]:
        """Iterate over what waits, partition by partition, in order."""
        for tp, end in self._ends.items():
            position = self._watermarks[tp]
            self._consumer.seek(tp, position)
            while position < end:
                found = await self._consumer.getmany(tp, timeout_ms=1000, max_records=500)
                for record in found.get(tp, []):
                    if record.offset < end and record.offset not in self._ahead[tp]:
                        yield DeadLetter(record, _text(record))
                position = await self._consumer.position(tp)

    async def redrive(
        self, producer: Producer, *, wanted: Callable[[DeadLetter], bool], rate: float = 50.0
    ) -> Redriven:
        """Send the wanted letters back, in order per partition.

        Args:
            producer: the way to Kafka.
            wanted: tells which letters to send.
            rate: letters per second, at most.

        Raises:
            SendFailed: a letter was not acknowledged; those before it are done, run again for the others.
            EventingError: too many letters before those wanted stay behind.
        """
        result, behind = Redriven(str(uuid.uuid4())), set[int]()  # partitions in which a letter stays
        with tracing.redriving(self.topic, result.id):
            async for letter in self.letters():
                if not wanted(letter) or letter.pointer or letter.redrives >= MAX_REDRIVES:
                    behind.add(letter.record.partition)
                    result.unmatched += not wanted(letter)
                    result.kept += wanted(letter)
                    continue
                await self._send(letter, producer, result.id)
                await self._remember(letter, contiguous=letter.record.partition not in behind)
                result.sent += 1
                await asyncio.sleep(1 / rate)
        return result

    async def _send(self, letter: DeadLetter, producer: Producer, redrive_id: str) -> None:
        known = letter.known
        target = redrive_topic_of(known[headers.ORIGIN_TOPIC], known[headers.GROUP])
        event_id, dead = known.get(headers.ID, letter.id), known.get(headers.TRACEPARENT)
        with tracing.redriven(target, event_id, redrive_id, dead, known.get(headers.ORIGIN_TRACEPARENT)) as hop:
            changes = hop | {
                headers.REDRIVE_ID: redrive_id,
                headers.REDRIVE_COUNT: str(letter.redrives + 1),
                **({headers.DLQ_TRACEPARENT: dead} if dead else {}),
            }
            await producer.send(
                target,
                letter.record.value,
                key=letter.record.key,
                headers=headers.replace(list(letter.record.headers), {k: v.encode() for k, v in changes.items()}),
                partition=int(known[headers.ORIGIN_PARTITION]),
            )

    async def _remember(self, letter: DeadLetter, *, contiguous: bool) -> None:
        """Move the watermark past a letter with nothing left before it; else keep its offset in the metadata."""
        tp = TopicPartition(self.topic, letter.record.partition)
        if contiguous:
            self._watermarks[tp] = letter.record.offset + 1
        ahead = {offset for offset in self._ahead[tp] | {letter.record.offset} if offset >= self._watermarks[tp]}
        metadata = "v1:" + ",".join(map(str, sorted(ahead))) if ahead else ""
        if len(metadata) > MAX_AHEAD:
            raise EventingError(
                f"{self.topic}: too many letters before this one stay behind; redrive or drop those first"
            )
        self._ahead[tp] = ahead
        await self._consumer.commit({tp: (self._watermarks[tp], metadata)})


def _text(record: Record) -> dict[str, str]:
    return {
        name: value.decode(errors="backslashreplace")
        for name, value in reversed(list(record.headers))
        if value is not None
    }
