"""A Kafka producer whose every wait is bounded and that is rebuilt when it can no longer be trusted.

aiokafka 0.14: idempotent sends never expire, `stop()` waits for them, and the sequence number of a rejected
batch is not rolled back. So a send is bounded here, and after a failure of unknown outcome or a rejection the
client is abandoned and a new one (with a new producer id) takes its place. Sending the same record again may
then duplicate it, with the same event id; it cannot reorder first deliveries.
"""

import asyncio
from types import TracebackType
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from eventing.errors import SendFailed
from eventing.headers import Headers
from eventing.settings import Settings

# The record itself is at fault, or the topic is: the same send fails again.
FINAL = (
    InvalidTopicError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

log = structlog.get_logger()


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
        limit = self._settings.kafka_request_timeout
        handed: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(limit):
                client = await self._ready()
                await _know(client, topic)
                acknowledged = await _hand(client, topic, value, key, headers, partition)
                handed = client
                await acknowledged
        except FINAL as error:
            await self._distrust(handed, error)
            raise SendFailed(f"{topic}: {error}", final=True, reason=type(error).__name__) from error
        except (KafkaError, OSError, TimeoutError) as error:
            await self._distrust(handed, error)
            what = str(error) or f"no acknowledgement within {limit:g} s"
            raise SendFailed(f"{topic}: {what}", reason=type(error).__name__) from error

    async def check(self) -> None:
        """Raise unless a broker answers; for readiness."""
        async with asyncio.timeout(self._settings.kafka_request_timeout):
            client = await self._ready()
            await client.client.fetch_all_metadata()

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

    async def _distrust(self, client: AIOKafkaProducer | None, error: Exception) -> None:
        """Drop a client that failed with a record in its hands; None means that it had not taken it."""
        if client is None or client is not self._client:
            return
        self._client = None
        log.warning("producer_rebuilt", error_type=type(error).__name__, error=str(error))
        await self._abandon(client)

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
