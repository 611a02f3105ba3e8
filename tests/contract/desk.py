"""What a contract test asks of the world around a consumer, on a broker in memory or on a real one.

Each test is written once, against `Desk`; `MemoryDesk` and `KafkaDesk` run it.
"""

import asyncio
import functools
import json
from collections.abc import Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tenacity import wait_fixed

from eventing import Consumer, Contract, Retries
from eventing.clock import monotonic
from eventing.dead_letter import redrive_topic_of, topic_of
from eventing.port import Fence
from eventing.subscription import all_topics, written_topics
from eventing.testing import Broker, Harness, run
from eventing.testing.broker import Log
from eventing.testing.fence import MemoryFence

QUICK = Retries(attempts=3, wait=wait_fixed(0.05))
PARTITIONS = 2


class Ticked(Contract, type="test.contract.ticked.v1", topic="contract-ticks", key="key"):
    key: str
    n: int
    action: str = "ticked"


class Tocked(Contract, type="test.contract.tocked.v1", topic="contract-tocks", key="key"):
    key: str
    n: int
    action: str = "tocked"


def on_desk(test):
    """Make an async test a plain one that its desk runs."""

    @functools.wraps(test)
    def run_on_desk(**given):
        desk = next(value for value in given.values() if isinstance(value, Desk))
        desk.run(test(**given))

    return run_on_desk


def body(key, n, action="ticked"):
    return json.dumps({"key": key or "", "n": n, "action": action}).encode()


def envelope(key, n, action="ticked"):
    """Return headers as our relay writes them."""
    known = {"specversion": "1.0", "id": f"{key}-{n}", "source": "/test", "type": f"test.contract.{action}.v1"}
    return [(f"ce_{name}", value.encode()) for name, value in known.items()] + [("ce_partitionkey", b"p")]


@dataclass(frozen=True)
class Letter:
    """A record of a dead-letter topic, and its headers as text."""

    record: object
    known: dict[str, str]

    @property
    def n(self):
        return json.loads(self.record.value)["n"]

    @property
    def disposition(self):
        return self.known["x-disposition"]


class Desk:
    """One topic, its group's topics, and what a test does with them.

    `tier` is a delay of a retry topic, `patience` a time to be patient for: seconds that the world can afford.
    """

    tier: int
    patience: float

    def __init__(self, topic, other):
        self.topic, self.other = topic, other
        self.group = f"{topic}-group"
        self.dlq = topic_of(topic, self.group)
        self.back = redrive_topic_of(topic, self.group)
        self.withheld = set()  # topics that do not exist

    def consumer(self, **options):
        return Consumer(self.group, **{"retries": QUICK} | options)

    def run(self, work):
        """Run a test to its end."""
        raise NotImplementedError

    def running(self, consumer, **settings):
        """Run a member of the group while the block runs; yields its `Runtime`."""
        raise NotImplementedError

    async def ended(self):
        """Raise what has ended a member in memory; a real one raises when its block is left."""

    async def create(self, *topics):
        raise NotImplementedError

    async def send(self, value, *, key=None, headers=(), partition=None, topic=None):
        """Write one record as it is."""
        raise NotImplementedError

    async def records(self, topic):
        raise NotImplementedError

    async def committed(self):
        """Return offset and note of each partition the group has committed, by topic and number."""
        raise NotImplementedError

    async def limit(self, topic, size):
        """Create a topic that takes records up to `size` bytes."""
        raise NotImplementedError

    async def redrive(self):
        """Send every dead letter that waits back to the group."""
        raise NotImplementedError

    async def pretend_committed(self, offset, note="", partitions=range(PARTITIONS)):
        """Let the group have committed an offset of partitions of the topic; nobody of it may run."""
        raise NotImplementedError

    async def grow(self):
        """Add a partition to the topic."""
        raise NotImplementedError

    async def forget_commits(self):
        await self.pretend_committed(0)

    async def expire(self, partition, before):
        """Delete the topic's records before an offset, as retention does."""
        raise NotImplementedError

    async def gap(self, partition):
        """Leave offsets without a record, as an aborted transaction does."""
        raise NotImplementedError

    async def ends(self):
        """Return the sum of the ends of the topic's partitions."""
        raise NotImplementedError

    async def publish(self, *ticks, action="ticked", partition=None, topic=None):
        """Write events of keys and numbers, in order."""
        for key, n in ticks:
            raw = None if key is None else key.encode()
            where = {"partition": partition, "topic": topic}
            await self.send(body(key, n, action), key=raw, headers=envelope(key, n, action), **where)

    async def letters(self):
        found = []
        for record in await self.records(self.dlq):
            known = {name: value.decode(errors="backslashreplace") for name, value in record.headers}
            found.append(Letter(record, known))
        return found

    async def buried(self, count, seconds=20):
        """Wait until there are so many dead letters, and return them."""

        async def enough():
            found = await self.letters()
            return found if len(found) >= count else None

        return await self.until(enough, seconds)

    async def until(self, probe, seconds=20):
        """Return the first true answer of `probe`, which may be a coroutine function."""
        limit = monotonic() + seconds
        while True:
            found = probe()
            found = await found if isinstance(found, Awaitable) else found
            if found:
                return found
            if monotonic() > limit:
                raise TimeoutError(f"not within {seconds} s")
            await asyncio.sleep(0.02)

    async def done(self, offset, seconds=20):
        """Wait until the group has committed so many offsets of the topic, over its partitions."""

        async def reached():
            places = await self.committed()
            return sum(at for (topic, _), (at, _) in places.items() if topic == self.topic) >= offset

        await self.until(reached, seconds)


def topics_of(consumer):
    return [*all_topics(consumer), *written_topics(consumer)]


class MemoryDesk(Desk):
    """A broker in memory, in virtual time."""

    tier = 10
    patience = 60.0

    def __init__(self, topic, other):
        super().__init__(topic, other)
        self.broker, self.fence = Broker(fault=self._fault), MemoryFence()
        self.harness = None  # the last one that ran
        self._crash_at, self._crashed = None, []

    def run(self, work):
        run(work)

    @asynccontextmanager
    async def running(self, consumer, *, provide=None, **settings):
        given = {Fence: self.fence} | (provide or {})
        self.harness = harness = Harness(consumer, broker=self.broker, provide=given, **settings)
        for topic in self.withheld:
            self.broker.logs.pop(topic, None)
        async with harness:
            yield harness.members[0].runtime

    async def ended(self):
        await self.harness.members[0].process.ended()

    async def create(self, *topics):
        for topic in topics:
            self.withheld.discard(topic)
            self.broker.create(topic, PARTITIONS)

    async def send(self, value, *, key=None, headers=(), partition=None, topic=None):
        topic = topic or self.topic
        self.broker.create(topic, PARTITIONS)
        self.broker.append(topic, value, key=key, headers=headers, partition=partition)

    async def limit(self, topic, size):
        self.broker.create(topic, PARTITIONS)
        self.broker.max_bytes[topic] = size

    async def records(self, topic):
        return self.broker.records(topic)

    async def committed(self):
        return dict(self.broker.group(self.group).committed)

    async def redrive(self):
        await self.harness.redrive()

    async def pretend_committed(self, offset, note="", partitions=range(PARTITIONS)):
        places = [(self.topic, number) for number in partitions]
        self.broker.group(self.group).committed |= dict.fromkeys(places, (offset, note))

    async def grow(self):
        self.broker.logs[self.topic].append(Log())

    async def expire(self, partition, before):
        self.broker.expire((self.topic, partition), before)

    async def gap(self, partition):
        self.broker.skip((self.topic, partition), 3)

    async def ends(self):
        return sum(log.end for log in self.broker.logs[self.topic])

    def crash_at(self, point):
        """Kill the member that passes a point of the broker next; returns a list that has the point when it has."""
        self._crash_at, self._crashed = point, []
        return self._crashed

    async def _fault(self, point, member):
        if point == self._crash_at:
            self._crash_at = None
            self._crashed.append(point)
            member.crash()
            await asyncio.sleep(0)
