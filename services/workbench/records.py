"""Read a topic from beginning to end, as it stands."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

READ_WITHIN = 60.0  # seconds for a whole topic


async def read_topic(bootstrap: str, topic: str) -> list[Any]:
    """Return every committed record of a topic, by partition and offset.

    Raises:
        LookupError: there is no such topic.
        TimeoutError: it could not be read in time.
    """
    async with asyncio.timeout(READ_WITHIN):
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed") as consumer:
            cluster = await consumer._client.fetch_all_metadata()  # noqa: SLF001  # the public calls wait for a topic that may not exist
            partitions = [TopicPartition(topic, n) for n in sorted(cluster.partitions_for_topic(topic) or ())]
            if not partitions:
                raise LookupError(f"topic {topic} does not exist")
            consumer.assign(partitions)
            first, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
            return [record for tp in partitions for record in await _read(consumer, tp, first[tp], end[tp])]


async def _read(consumer: AIOKafkaConsumer, tp: TopicPartition, first: int, end: int) -> list[Any]:
    consumer.seek(tp, first)  # not seek_to_beginning: the reset to the end that `assign` asked for may overtake it
    records: list[Any] = []
    while await consumer.position(tp) < end:
        records += (await consumer.getmany(tp, timeout_ms=1000)).get(tp, [])
    return [record for record in records if record.offset < end]
