"""A Kafka producer whose every wait is bounded and that is rebuilt when it can no longer be trusted.

aiokafka 0.14: idempotent sends never expire, `stop()` waits for them, and the sequence number of a rejected
batch is not rolled back. So a send is bounded here, and after a failure of unknown outcome or a rejection the
client is abandoned and a new one (with a new producer id) takes its place. Sending the same record again may
then duplicate it, with the same event id; it cannot reorder first deliveries.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTimestampError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from eventing.errors import SendFailed
from eventing.headers import Headers
from eventing.metrics import OPERATION_DURATION, SENT
from eventing.settings import Settings

# The record itself is at fault, or its topic is: the same send fails again.
ALONE = (InvalidTimestampError, MessageSizeTooLargeError, PolicyViolationError, RecordListTooLargeError)
FINAL = (*ALONE, InvalidTopicError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError)

Record = tuple[bytes | None, bytes | None, Headers]  # key, value, headers

log = structlog.get_logger()


@dataclass(slots=True)
class _Hold:
    """A client that is used; `handed` when it has taken its records."""

    client: AIOKafkaProducer
    handed: bool = False
    records: int = 1


class Producer:
    """Sends records with acks=all and idempotence; open with `async with`, needs no broker to open."""

    def __init__(self, settings: Settings, *, linger: float = 0.001) -> None:
        """Describe the producer.

        Args:
            settings: where the broker is, and how long a request may take.
            linger: seconds to wait for more records to share a request.
        """
        self._settings = settings
        self._linger = linger
        self._client: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> "Producer":
        """Return the producer; the client starts with the first send."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Stop the client, within the request timeout."""
        if self._client is not None:
            await self._abandon(self._client)

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        headers: Headers,
        partition: int | None = None,
    ) -> None:
        """Send one record and wait for the acknowledgement of all in-sync replicas.

        Raises:
            SendFailed: with `final` when the same record can never be accepted; otherwise the outcome is
                unknown: the record may have been written.
        """
        async with self._sending(topic) as hold:
            await _know(hold.client, topic)
            acknowledged = await _hand(hold.client, topic, value, key, headers, partition)
            hold.handed = True
            await acknowledged

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has.

        Raises:
            SendFailed: with `final` when there is no such topic.
        """
        async with self._bounded(topic) as hold:
            await _know(hold.client, topic)
            return len(await hold.client.partitions_for(topic))

    async def write(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        """Write as many of the first records as fit into one batch; returns how many were acknowledged.

        The broker takes a batch whole or not at all, so records of one key may share it.

        Raises:
            SendFailed: as `send`; with `final` when the broker refused the batch, so none of it was written.
        """
        async with self._sending(topic) as hold:
            await _know(hold.client, topic)
            batch = hold.client.create_batch()
            for key, value, headers in records:
                if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                    break
            batch.close()
            acknowledged = await hold.client.send_batch(batch, topic, partition=partition)
            hold.handed, hold.records = True, int(batch.record_count())
            await acknowledged
            return hold.records

    async def check(self) -> None:
        """Raise unless a broker answers; for readiness."""
        async with asyncio.timeout(self._settings.kafka_request_timeout):
            client = await self._ready()
            await client.client.fetch_all_metadata()

    @asynccontextmanager
    async def _sending(self, topic: str) -> AsyncIterator[_Hold]:
        """Lend the client as `_bounded` does, and measure the request and what became of its records."""
        started, failure, records = time.perf_counter(), "", 1
        try:
            async with self._bounded(topic) as hold:
                yield hold
            records = hold.records
        except SendFailed as error:
            failure, records = error.reason, error.records
            raise
        finally:
            SENT.of(topic, failure).value += records
            OPERATION_DURATION.of("send", topic, failure).observe(time.perf_counter() - started)

    @asynccontextmanager
    async def _bounded(self, topic: str) -> AsyncIterator[_Hold]:
        """Lend the client for one request of bounded time, and drop it when it fails with a record in its hands."""
        limit = self._settings.kafka_request_timeout
        hold: _Hold | None = None
        try:
            async with asyncio.timeout(limit):
                hold = _Hold(await self._ready())
                yield hold
        except FINAL as error:
            await self._distrust(hold, error)
            raise SendFailed(
                f"{topic}: {error}",
                final=True,
                reason=type(error).__name__,
                alone=isinstance(error, ALONE),
                records=hold.records if hold else 1,
            ) from error
        except (KafkaError, OSError, TimeoutError) as error:
            await self._distrust(hold, error)
            what = str(error) or f"no acknowledgement within {limit:g} s"
            raise SendFailed(f"{topic}: {what}", reason=type(error).__name__) from error

    async def _ready(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._client is None:
                self._client = await self._start()
            return self._client

    async def _start(self) -> AIOKafkaProducer:
        client = AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka_bootstrap,
            client_id=self._settings.kafka_client_id or self._settings.service,
            acks="all",
            enable_idempotence=True,
            linger_ms=self._linger * 1000,
            max_batch_size=256 * 1024,
            max_request_size=64 << 20,  # below the broker's limit of a request; the topic decides on records
            request_timeout_ms=int(self._settings.kafka_request_timeout * 1000),
        )
        try:
            await client.start()
        except BaseException:
            await _stop(client, 1.0)
            raise
        return client

    async def _distrust(self, hold: _Hold | None, error: Exception) -> None:
        """Drop a client that failed with a record in its hands."""
        if hold is None or not hold.handed or hold.client is not self._client:
            return
        self._client = None
        log.warning("producer_rebuilt", error_type=type(error).__name__, error=str(error))
        await self._abandon(hold.client)

    async def _abandon(self, client: AIOKafkaProducer) -> None:
        await _stop(client, min(5.0, self._settings.kafka_request_timeout))


async def _know(client: AIOKafkaProducer, topic: str) -> None:
    """Raise for a topic that does not exist; aiokafka would wait for it, and say the same during an outage."""
    if topic in client.client.cluster.topics():
        return
    cluster = await client.client.fetch_all_metadata()
    if topic not in cluster.topics():
        raise UnknownTopicOrPartitionError(
            f"topic {topic} does not exist, or this user may not see it; create it first"
        )


async def _hand(
    client: AIOKafkaProducer,
    topic: str,
    value: bytes | None,
    key: bytes | None,
    headers: Headers,
    partition: int | None,
) -> Any:
    if partition is not None:
        there = await client.partitions_for(topic)
        partition = partition if partition in there else partition % len(there)  # the other topic has more of them
    if value is not None or key is not None:
        return await client.send(topic, value, key=key, headers=headers, partition=partition)
    batch = client.create_batch()  # `send` refuses a record with neither, which Kafka and a dead letter may have
    batch.append(key=None, value=None, timestamp=None, headers=headers)
    return await client.send_batch(batch, topic, partition=partition or 0)


async def _stop(client: AIOKafkaProducer, limit: float) -> None:
    """Stop a client whose own `stop` may never return; then cut its tasks and connections."""
    try:
        async with asyncio.timeout(limit):
            await client.stop()
    except (KafkaError, OSError, TimeoutError):
        sender = client._sender.sender_task  # noqa: SLF001  # no public way ends a sender that retries for ever
        if sender is not None:
            sender.cancel()
            await asyncio.wait([sender], timeout=1.0)
        await asyncio.wait_for(client.client.close(), limit)
