"""Test a consumer without a broker: the shipped runtime on a broker in memory, with redelivery, retry and DLQ.

@virtual_time
async def test_a_busy_server_is_asked_again():
    async with Harness(consumer, provide={Mail: FlakyMail()}) as harness:
        await harness.publish(UserRegistered(user_id="7", email="ada@example.com"))
        await harness.settled()
        assert harness.dead_letters == []
"""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import uuid_utils.compat

from eventing import headers
from eventing.clock import monotonic, wall
from eventing.consumer import Consumer
from eventing.contract import Contract
from eventing.dead_letter import POINTER, redrive_topic_of, topic_of
from eventing.errors import EventingError, Misconfigured
from eventing.event import Event
from eventing.headers import Headers
from eventing.port import Client, Fence, Listener
from eventing.provide import provide
from eventing.runtime import Runtime
from eventing.settings import Settings
from eventing.subscription import all_topics, written_topics
from eventing.testing.broker import Broker, Fault, MemoryRecord, MemorySender
from eventing.testing.fence import MemoryFence
from eventing.testing.member import MemoryClient
from eventing.testing.process import Process, here

LOOKS = (0.02, 1.0)  # seconds between looks whether everything is finished: first, at most


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: the event (None when it cannot be read), why, and the record itself."""

    event: Event | None
    disposition: str
    error_type: str
    error: str
    record: MemoryRecord


class Member:
    """One process of the group."""

    def __init__(self, harness: "Harness") -> None:
        self.client: MemoryClient | None = None
        self.stop = asyncio.Event()
        self._harness = harness
        settings, broker = harness.settings, harness.broker
        self.runtime = Runtime(
            harness.consumer, settings, MemorySender(broker, self), harness.provided, connect=self._connect
        )
        self.process = Process(self.runtime.run(self.stop))

    def _connect(self, on_assigned: Listener, on_revoked: Listener) -> Client:
        group = self._harness.consumer.group
        session = self._harness.settings.consumer_session_timeout
        self.client = MemoryClient(self._harness.broker, group, on_assigned, on_revoked, who=self, session=session)
        return self.client

    async def leave(self) -> None:
        """Stop as on SIGTERM: drain, commit, leave."""
        self.stop.set()
        await self.process.ended()

    def crash(self) -> None:
        """Die as on SIGKILL; the group misses it after a session timeout."""
        self.process.crash()

    def evict(self) -> None:
        """Let the group take it for dead, as after a long pause: it works on until it finds out."""
        self._harness.broker.group(self._harness.consumer.group).leave(self.client)


class Harness:
    """A consumer group on a broker in memory."""

    def __init__(
        self,
        consumer: Consumer,
        *,
        provide: dict[type, Any] | None = None,
        members: int = 1,
        partitions: int = 2,
        broker: Broker | None = None,
        fault: Fault | None = None,
        **settings: Any,
    ) -> None:
        """Describe the harness.

        Args:
            consumer: what to test.
            provide: resources by type, instead of those the consumer would open.
            members: processes of the group.
            partitions: of each topic.
            broker: one that others use too, or that outlives this consumer; None makes one.
            fault: what may go wrong with the broker made here, at each await of a client; see `eventing.testing.Fault`.
            settings: fields of `Settings` that differ from their defaults.

        Raises:
            Misconfigured: there is no such setting.
        """
        if unknown := settings.keys() - Settings.model_fields:
            raise Misconfigured(f"unknown setting {', '.join(sorted(unknown))}; see eventing.settings.Settings")
        self.consumer = consumer
        self.broker = broker or Broker(fault=fault)
        self.settings = Settings(**settings)
        self.members: list[Member] = []
        self.provided: dict[type, Any] = {}
        self._given = {Fence: MemoryFence()} | (provide or {})
        self._wanted = members
        for topic in {*all_topics(consumer), *written_topics(consumer)}:
            self.broker.create(topic, partitions)

    async def __aenter__(self) -> Self:
        """Open the resources and start the members."""
        self._opened = provide(self.consumer, self.settings, self._given)
        self.provided = await self._opened.__aenter__()
        for _ in range(self._wanted):
            self.join()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Stop the members and close the resources."""
        for member in self.members:
            if member.process.running and not member.process.crashed:
                await member.leave()
            await member.process.gone()
        await self._opened.__aexit__(None, None, None)

    def join(self) -> Member:
        """Start one more member."""
        member = Member(self)
        self.members.append(member)
        return member

    @property
    def here(self) -> Member | None:
        """The member that runs the calling code: in a handler, the one whose handler it is."""
        process = here()
        return next((member for member in self.members if member.process is process), None)

    def rebalance(self) -> None:
        """Make the group give up everything and share it anew."""
        self.broker.group(self.consumer.group).rebalance()

    async def publish(self, *events: Contract, **attributes: str) -> list[MemoryRecord]:
        """Write events as the relay does; `attributes` are further CloudEvents attributes, by their names."""
        return [self._publish(event, attributes) for event in events]

    def _publish(self, event: Contract, more: dict[str, str]) -> MemoryRecord:
        now = datetime.fromtimestamp(wall(), UTC).isoformat()
        known = {
            "specversion": "1.0", "id": str(uuid_utils.compat.uuid7()), "source": "/test", "type": event.event_type,
            "time": now, "partitionkey": event.event_key,
        } | more  # fmt: skip
        written: Headers = [(f"ce_{name}", value.encode()) for name, value in known.items()]
        return self.broker.append(event.event_topic, event.encode(), key=event.event_key.encode(), headers=written)

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
    ) -> MemoryRecord:
        """Write a record as it is."""
        return self.broker.append(topic, value, key=key, headers=headers, partition=partition)

    async def settled(self, seconds: float = 3600.0) -> None:
        """Wait until every record is finished, retries included.

        Raises:
            EventingError: something is not, after so many seconds of the loop's clock; it says what.
        """
        until, pause = monotonic() + seconds, LOOKS[0]
        while left := self.unfinished():
            for member in self.members:
                if not member.process.running and not member.process.crashed and not member.stop.is_set():
                    await member.process.ended()
            if monotonic() > until:
                raise EventingError(f"not finished after {seconds:g} s: {left}")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LOOKS[1])

    def unfinished(self) -> dict[str, int]:
        """Return how many offsets are not finished, by topic."""
        live = [member.runtime for member in self.members if member.process.running and not member.process.crashed]
        done: dict[tuple[str, int], int] = {}
        for runtime in live:
            for place, partition in runtime.lanes.partitions.items():
                done[place] = min(partition.watermark, done.get(place, partition.watermark))  # one may be evicted
        committed = self.broker.group(self.consumer.group).committed
        left: dict[str, int] = {}
        for topic in all_topics(self.consumer):
            for number, log in enumerate(self.broker.logs[topic]):
                reached = done.get((topic, number), committed.get((topic, number), (log.start, ""))[0])
                if reached < log.end:
                    left[topic] = left.get(topic, 0) + log.end - reached
        return left

    @property
    def dead_letters(self) -> list[Letter]:
        """Every dead letter, in the order of the topics' partitions."""
        return [
            _letter(record)
            for topic in self.consumer.topics
            for record in self.broker.records(topic_of(topic, self.consumer.group))
        ]

    async def redrive(self) -> int:
        """Send the dead letters that have come since the last time back to the group; returns how many.

        Pointers stay: their bytes are where they came from.
        """
        redrive_id = str(uuid.uuid4())
        letters = [letter for topic in self.consumer.topics for letter in self._new(topic) if not _points(letter)]
        for letter in letters:
            self._send_back(letter, redrive_id)
        return len(letters)

    def _new(self, topic: str) -> list[MemoryRecord]:
        """Return the letters that were not sent back yet, and pass them, as a redrive on Kafka does."""
        target = topic_of(topic, self.consumer.group)
        passed = self.broker.group(f"{target}.redrive").committed
        new = [r for r in self.broker.records(target) if r.offset >= passed.get((target, r.partition), (0, ""))[0]]
        passed |= {(target, record.partition): (record.offset + 1, "") for record in new}
        return new

    def _send_back(self, letter: MemoryRecord, redrive_id: str) -> None:
        known = {name: value.decode() for name, value in letter.headers if name.startswith("x-")}
        changes = {
            headers.REDRIVE_ID: redrive_id,
            headers.REDRIVE_COUNT: str(int(known.get(headers.REDRIVE_COUNT, "0")) + 1),
        }
        self.broker.append(
            redrive_topic_of(known[headers.ORIGIN_TOPIC], known[headers.GROUP]),
            letter.value,
            key=letter.key,
            headers=headers.replace(list(letter.headers), {k: v.encode() for k, v in changes.items()}),
            partition=int(known[headers.ORIGIN_PARTITION]),
        )


def _points(letter: MemoryRecord) -> bool:
    return (headers.first(list(letter.headers), headers.DISPOSITION) or b"").endswith(POINTER.encode())


def _letter(record: MemoryRecord) -> Letter:
    known = {name: value.decode() for name, value in record.headers if name.startswith("x-")}
    try:
        event: Event | None = Event.read(record)
    except EventingError:
        event = None
    return Letter(event, known[headers.DISPOSITION], known[headers.ERROR_TYPE], known[headers.ERROR_MESSAGE], record)
