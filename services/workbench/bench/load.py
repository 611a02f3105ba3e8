"""Fill a topic with the records of a shape, as our relay would write them."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner
from uuid_utils import uuid7

from eventing.outbox_row import record_headers
from workbench.bench.tick import Tick, account, tick
from workbench.topics import ensure_topics

SAMPLED_EVERY = 20  # the producer of the traced events samples 5 %
_BREATH = 1_000  # records between looks at the clock of others
_WITHIN = 60.0  # seconds for the broker to take a topic

# It reports as an error that a topic made a moment ago has no leader yet, and tries again; a real failure raises.
logging.getLogger("aiokafka.producer.sender").setLevel(logging.CRITICAL)


async def fill(bootstrap: str, topic: str, *, records: int, keys: int, partitions: int) -> None:
    """Create a topic and write its records; those of a key follow one another in its partition.

    Raises:
        TimeoutError: the broker did not take them in time.
    """
    await ensure_topics(bootstrap, {topic: partitions})
    places = _places(keys, partitions)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=1 << 17) as producer:
        async with asyncio.timeout(_WITHIN):
            await _send(producer, topic, records, keys, places)


async def _send(producer: AIOKafkaProducer, topic: str, records: int, keys: int, places: list[int]) -> None:
    batches = [producer.create_batch() for _ in range(max(places) + 1)]
    sent = []
    for number in range(records):
        place, packed = places[number % keys], _packed(number, keys)
        if batches[place].append(**packed) is None:
            sent.append(await producer.send_batch(batches[place], topic, partition=place))
            batches[place] = producer.create_batch()
            batches[place].append(**packed)
        if number % _BREATH == 0:
            await asyncio.sleep(0)
    for place, batch in enumerate(batches):
        if batch.record_count():
            sent.append(await producer.send_batch(batch, topic, partition=place))
    await asyncio.gather(*sent)


def _packed(number: int, keys: int) -> dict[str, Any]:
    body = tick(number, keys)
    headers = _headers(body, number, keys)
    return {"timestamp": None, "key": body.event_key.encode(), "value": body.encode(), "headers": headers}


def _places(keys: int, partitions: int) -> list[int]:
    """Return the partition of each key, by the default every Kafka client shares."""
    numbers, choose = list(range(partitions)), DefaultPartitioner()
    return [choose(account(key).encode(), numbers, numbers) for key in range(keys)]


def _headers(body: Tick, number: int, keys: int) -> list[tuple[str, bytes]]:
    sampled = number % SAMPLED_EVERY == 0
    row: dict[str, Any] = {
        "id": uuid7(),
        "source": "bench",
        "type": body.event_type,
        "aggregateid": body.account,
        "aggregateversion": number // keys + 1,
        "created_at": datetime.now(UTC),
        "traceparent": f"00-{uuid7().hex}-{number + 1:016x}-{sampled:02x}",
    }
    absent = dict.fromkeys(("dataschema", "correlationid", "causationid", "expirytime", "tracestate"))
    return record_headers(row | absent)  # type: ignore[arg-type]  # it reads a row by name, as a mapping is read
