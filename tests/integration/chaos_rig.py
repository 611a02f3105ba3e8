"""A consumer group of real processes, each behind a proxy of its own, and what can be done to it."""

import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from tests.integration.chaos_audit import Audit
from tests.integration.chaos_schedule import SESSION, SLOTS
from tests.integration.journal import Journal
from tests.integration.rig import until

from eventing import Database
from eventing.dead_letter import redrive_topic_of, topic_of
from eventing.migrate import migrate
from workbench.broker import Broker
from workbench.home import Home
from workbench.ports import free_port
from workbench.postgres import Postgres
from workbench.proxy import Proxy
from workbench.records import read_topic
from workbench.topics import ensure_topics

DATABASE = "chaos"
KINDS = ("plain", "owned", "threaded")  # of topics; see chaos_consumer.py
CONCURRENCY = 16  # handlers a member runs at once
SETTINGS = {
    "EVENTING_SERVICE": "chaos",
    "EVENTING_LOG_FORMAT": "json",
    "EVENTING_CONSUMER_CONCURRENCY": str(CONCURRENCY),
    "EVENTING_CONSUMER_SESSION_TIMEOUT": str(SESSION),
    "PYTHONPATH": str(Path(__file__).parent),
}


@dataclass(frozen=True)
class Parts:
    """What a crew works on: a broker behind one proxy per slot, and a database."""

    home: Home
    broker: Broker
    postgres: Postgres
    proxies: list[Proxy]

    @classmethod
    async def start(cls, home, slots=SLOTS, properties=None):
        """Start the parts; they stop with the home."""
        proxies = [await Proxy.start() for _ in range(slots)]
        for proxy in proxies:
            home.on_close(proxy.cut)
        kafka = Broker.start(home, properties=properties, proxies=proxies, progress=lambda _: None)
        parts = cls(home, *await asyncio.gather(kafka, Postgres.start(home)), proxies)
        await parts.postgres.create_database(DATABASE)
        await migrate(parts.database_url)
        async with Database(parts.database_url) as database:
            await database.execute("CREATE TABLE effects (seq bigserial, topic text, event_id text)")
        return parts

    @property
    def database_url(self):
        """Address of the database of every group."""
        return self.postgres.url(DATABASE)


class Crew:
    """The members of a group, one per slot, and the broker; every step is in the journal."""

    def __init__(self, parts, group, partitions):
        self.home, self.broker, self.group, self.partitions = parts.home, parts.broker, group, partitions
        self.topics = {kind: f"{group}.{kind}" for kind in KINDS}
        self.journal = Journal(parts.home.path / f"{group}.jsonl")
        self.database_url = parts.database_url
        self.members = {}  # slot: the process that is there, or was there last
        self._proxies = parts.proxies
        self.statuses = {}  # with which members left that were asked to
        self.ports = {}  # slot: where its member answers probes
        self._lives = Counter()
        self._tasks = {}  # what goes on beside the schedule, by what it is done to

    @classmethod
    async def gather(cls, parts, group, *, partitions=6, configs=None):
        """Create the topics of a group; nobody consumes yet."""
        crew = cls(parts, group, partitions)
        own = crew.topics.values()
        more = [name(topic, group) for topic in own for name in (topic_of, redrive_topic_of)]
        await ensure_topics(crew.broker.bootstrap, dict.fromkeys(own, partitions), configs)
        await ensure_topics(crew.broker.bootstrap, dict.fromkeys(more, partitions))
        return crew

    async def follow(self, steps):
        """Take the steps of a schedule, each at its time, then heal everything."""
        started = time.monotonic()
        for step in steps:
            await asyncio.sleep(max(0.0, started + step.at - time.monotonic()))
            await getattr(self, step.what)(*([] if step.slot is None else [step.slot]))
        await self.settle()

    async def settle(self):
        """Wait for what still goes on beside the schedule."""
        await asyncio.gather(*self._tasks.values())

    async def join(self, slot, **settings):
        """Start a member, once the one before it in this slot has left.

        Args:
            slot: where; it decides which proxy the member is behind.
            settings: environment variables of this member.
        """
        await self._done(slot)
        self._lives[slot] += 1
        name = f"{self.group}-m{slot}.{self._lives[slot]}"
        known = {
            "CHAOS_MEMBER": name,
            "CHAOS_GROUP": self.group,
            "CHAOS_JOURNAL": str(self.journal.path),
            "EVENTING_KAFKA_BOOTSTRAP": self._proxies[slot].address,
            "EVENTING_DATABASE_URL": self.database_url,
            "EVENTING_HTTP_PORT": str(self._port(slot)),
        }
        argv = [sys.executable, "-m", "eventing.cli", "consume", "chaos_consumer"]
        self.journal.note(name, "joins")
        self.members[slot] = await self.home.spawn(name, argv, env=SETTINGS | known | settings)

    def _port(self, slot):
        return self.ports.setdefault(slot, free_port())

    async def leave(self, slot):
        """Stop a member in order; others go on meanwhile."""
        self._beside(slot, self._leave(self.members[slot]))

    async def _leave(self, member):
        self.journal.note(member.name, "leaves")
        status = await member.stop()
        self.journal.note(member.name, "gone")
        if "consumer_started" in member.log.read_text():  # else it had no time to hear the signal, nor to consume
            self.statuses[member.name] = status

    async def kill(self, slot):
        member = self.members[slot]
        self.journal.note(member.name, "dies")
        await member.kill()
        self.journal.note(member.name, "gone")

    async def freeze(self, slot):
        self.journal.note(self.members[slot].name, "freezes")
        self.members[slot].freeze()

    async def thaw(self, slot):
        self.members[slot].thaw()
        self.journal.note(self.members[slot].name, "thawed")

    async def cut(self, slot):
        self.journal.note(self.members[slot].name, "cut")
        await self._proxies[slot].cut()

    async def stall(self, slot):
        self.journal.note(self.members[slot].name, "stalled")
        self._proxies[slot].stall()

    async def heal(self, slot):
        await self._proxies[slot].heal()
        self.journal.note(self.members[slot].name, "healed")

    async def restart(self):
        self._beside("broker", self._outage("stops", self.broker.stop))

    async def crash(self):
        self._beside("broker", self._outage("dies", self.broker.kill))

    async def _outage(self, what, end):
        self.journal.note("broker", what)
        await end()
        await self.broker.resume()
        self.journal.note("broker", "up")

    def _beside(self, what, work):
        self._tasks[what] = asyncio.create_task(work)

    async def _done(self, what):
        if what in self._tasks:
            await self._tasks.pop(what)

    async def disband(self):
        """Stop every member in order."""
        for slot, member in self.members.items():
            if member.returncode is None:
                await self.leave(slot)
        await asyncio.gather(*self._tasks.values())

    async def behind(self):
        """Return how many records the group has not finished, by topic and partition, where there are any."""
        places = [TopicPartition(topic, n) for topic in self.topics.values() for n in range(self.partitions)]
        done = await self.committed()
        async with AIOKafkaConsumer(bootstrap_servers=self.broker.bootstrap) as reader:
            ends = await reader.end_offsets(places)
        left = {(tp.topic, tp.partition): end - done.get((tp.topic, tp.partition), 0) for tp, end in ends.items()}
        return {place: count for place, count in left.items() if count}

    async def committed(self):
        """Return what the group has committed, by topic and partition."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.bootstrap)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(self.group)
        finally:
            await admin.close()
        return {(tp.topic, tp.partition): known.offset for tp, known in found.items()}

    async def finished(self, seconds=60):
        """Wait until the group has committed the end of every partition."""
        try:
            await until(self._nothing_left, seconds, pause=0.2)
        except TimeoutError:
            tails = "\n".join(f"{m.name}:\n{m.tail(8)}" for m in self.members.values() if m.returncode is None)
            raise AssertionError(
                f"after {seconds} s the group has not finished {await self.behind()}\n{tails}"
            ) from None

    async def _nothing_left(self):
        return not await self.behind()

    def audit(self):
        """Return what the journal proves so far."""
        return Audit(self.journal.lines())

    async def places(self, kind):
        """Return the place of every record of a topic."""
        return [(r.topic, r.partition, r.offset) for r in await self.records(kind)]

    async def records(self, kind):
        """Return every record of a topic."""
        return await read_topic(self.broker.bootstrap, self.topics[kind])

    async def letters(self, kind):
        """Return every dead letter of a topic."""
        return await read_topic(self.broker.bootstrap, topic_of(self.topics[kind], self.group))

    async def effects(self):
        """Return the ids of the events whose effects are in the database."""
        async with Database(self.database_url) as database:
            query = "SELECT event_id FROM effects WHERE topic = $1"
            return [row["event_id"] for row in await database.fetch(query, self.topics["owned"])]
