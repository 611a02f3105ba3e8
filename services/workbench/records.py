"""Read a topic from beginning to end, as it stands."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

READ_WITHIN = 60.0  # seconds for a whole topic


async def read_topic(bootstrap: str, topic: str) -> list[Any]:
    """Return every committed record of a topic, by partition and offset.

    Raises:
        TimeoutError: it could not be read in time.
    """
    async with asyncio.timeout(READ_WITHIN):
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed") as consumer:
            await consumer._client.fetch_all_metadata()  # noqa: SLF001  # before it, the topic's partitions are unknown
            partitions = [TopicPartition(topic, n) for n in sorted(consumer.partitions_for_topic(topic) or ())]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            return [record for tp in partitions for record in await _read(consumer, tp, ends[tp])]


async def _read(consumer: AIOKafkaConsumer, tp: TopicPartition, end: int) -> list[Any]:
    await consumer.seek_to_beginning(tp)
    records: list[Any] = []
    while await consumer.position(tp) < end:
        records += (await consumer.getmany(tp, timeout_ms=1000)).get(tp, [])
    return [record for record in records if record.offset < end]
