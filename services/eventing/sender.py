"""Rows of the outbox → acknowledged records, in order per key.

Rows of a partition go one batch after another. The broker takes a batch whole or not at all and aiokafka repeats it as
it was, so rows of a key may share a batch: a key never has a row under way while an earlier one may still be refused.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import asyncpg
from aiokafka.partitioner import murmur2

from eventing.errors import SendFailed
from eventing.metrics import OUTBOX_PUBLISH_ERRORS
from eventing.outbox_row import Key, key_of, record_of
from eventing.producer import Producer

Rows = list[asyncpg.Record]

SMALLER_FOR = 60.0  # seconds for which a topic gets smaller batches after it has refused one


@dataclass
class Sent:
    """What became of rows: those not named here are to be read again.

    `refused` holds the first row of each key the broker can never take, with its reason; `failure` is an outcome
    that is not known.
    """

    acknowledged: Rows = field(default_factory=list)
    refused: list[tuple[asyncpg.Record, str]] = field(default_factory=list)
    failure: SendFailed | None = None


class Sender:
    """Sends rows with one producer."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._smaller: dict[str, tuple[int, float]] = {}  # rows of a batch at most, and until when, by topic

    async def send(self, rows: Rows) -> Sent:
        """Send rows, given in order; each partition by itself."""
        sent = Sent()
        topics = [self._topic(topic, chosen, sent) for topic, chosen in _by_topic(rows).items()]
        await asyncio.gather(*topics)
        return sent

    async def _topic(self, topic: str, rows: Rows, sent: Sent) -> None:
        try:
            count = await self._producer.partitions(topic)
        except SendFailed as error:
            _failed(topic, rows, error, sent)
            return
        partitions: dict[int, Rows] = defaultdict(list)
        for row in rows:
            partitions[_hash(row["aggregateid"]) % count].append(row)
        await asyncio.gather(*(self._partition(topic, number, part, sent) for number, part in partitions.items()))

    async def _partition(self, topic: str, partition: int, rows: Rows, sent: Sent) -> None:
        left = [(row, record_of(row)) for row in rows]
        while left:
            batch = left[: self._most(topic)]
            try:
                count = await self._producer.write(topic, partition, [record for _, record in batch])
            except SendFailed as error:
                if error.alone and error.records > 1:
                    self._halve(topic, error.records)
                    continue
                given_up = batch[:1] if error.alone else left
                keys = _failed(topic, [row for row, _ in given_up], error, sent)
                left = [(row, record) for row, record in left if error.final and key_of(row) not in keys]
            else:
                sent.acknowledged += [row for row, _ in batch[:count]]
                del left[:count]

    def _most(self, topic: str) -> int | None:
        most, until = self._smaller.get(topic, (None, 0.0))
        return most if time.monotonic() < until else None

    def _halve(self, topic: str, records: int) -> None:
        self._smaller[topic] = records // 2, time.monotonic() + SMALLER_FOR


def _failed(topic: str, rows: Rows, error: SendFailed, sent: Sent) -> set[Key]:
    """Note a failure: the first row of each key is refused, or the outcome of all is unknown; returns the keys."""
    OUTBOX_PUBLISH_ERRORS.labels(topic, error.reason).inc()
    keys = {key_of(row): row for row in reversed(rows)}
    if error.final:
        sent.refused += [(row, str(error)) for row in keys.values()]
    else:
        sent.failure = error
    return set(keys)


def _by_topic(rows: Iterable[asyncpg.Record]) -> dict[str, Rows]:
    """Return the rows of each topic; of a key that has events in several, only those before the first other topic."""
    topics: dict[str, Rows] = defaultdict(list)
    topic_of: dict[Key, str | None] = {}
    for row in rows:
        key, topic = key_of(row), row["topic"]
        if topic_of.setdefault(key, topic) == topic:
            topics[topic].append(row)
        else:
            topic_of[key] = None
    return topics


@lru_cache(maxsize=1 << 16)
def _hash(key: str) -> int:
    """Return the hash by which Kafka's default partitioner places a key."""
    return int(murmur2(key.encode())) & 0x7FFFFFFF
