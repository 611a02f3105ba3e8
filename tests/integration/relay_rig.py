"""A database with an outbox, a broker, relays as processes, writers, and a person who repairs what is blocked."""

import asyncio
import random
import sys
from contextlib import asynccontextmanager

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from tests.integration.relay_audit import Event, audit
from tests.integration.rig import until

from eventing import Contract, Database, outbox, repair
from eventing.errors import SendFailed, Unavailable
from eventing.migrate import migrate
from eventing.producer import Producer
from eventing.settings import Settings
from workbench.broker import Broker
from workbench.postgres import Postgres
from workbench.records import read_topic
from workbench.topics import ensure_topics

LEASE = 2.0
KEYS, WRITERS, TOPIC = 60, 24, "chaos"
SMALL, LARGE = 8_000, 12_000  # bytes the topic takes at first, and of a body it refuses
OUTAGE = (Unavailable, TimeoutError, OSError, asyncpg.PostgresError)


class Wrote(Contract, type="chaos.wrote.v1", topic=TOPIC, key="id"):
    """What a writer wrote."""

    id: str
    text: str = ""


class Yard:
    """The parts of a run."""

    def __init__(self, home, broker, postgres, database, producer, seed):
        self.home, self.broker, self.postgres, self.database, self.producer = home, broker, postgres, database, producer
        self.dice = random.Random(seed)
        self.relays, self.frozen, self.repairs, self._count = [], set(), 0, 0

    @classmethod
    @asynccontextmanager
    async def open(cls, home, seed):
        """Start Kafka and PostgreSQL, and make tables and the topic."""
        broker, postgres = await Broker.start(home), await Postgres.start(home)
        await ensure_topics(broker.bootstrap, {TOPIC: 4}, {"max.message.bytes": str(SMALL)})
        url = await postgres.create_database("chaos")
        await migrate(url)
        async with Database(url, pool=WRITERS + 4, timeout=5) as database:
            await database.execute("CREATE TABLE truth (id uuid PRIMARY KEY, key text, version bigint)")
            settings = Settings(kafka_bootstrap=broker.bootstrap, kafka_request_timeout=3)
            async with Producer(settings) as producer:
                yield cls(home, broker, postgres, database, producer, seed)

    async def add_relay(self):
        """Start one more relay."""
        self._count += 1
        known = {
            "EVENTING_SERVICE": "chaos",
            "EVENTING_DATABASE_URL": self.database.url,
            "EVENTING_DATABASE_TIMEOUT": "5",
            "EVENTING_KAFKA_BOOTSTRAP": self.broker.bootstrap,
            "EVENTING_KAFKA_REQUEST_TIMEOUT": "3",
            "EVENTING_HTTP_PORT": "0",
            "EVENTING_LOG_FORMAT": "json",
            "EVENTING_RELAY_LEASE": str(LEASE),
            "EVENTING_RELAY_POLL_MAX": "0.2",
        }
        argv = [sys.executable, "-m", "eventing.cli", "relay"]
        self.relays.append(await self.home.spawn(f"relay-{self._count}", argv, env=known))

    @asynccontextmanager
    async def writing(self, *, large=0.0):
        """Let the writers write while the block runs; `large` is the share of events that the topic refuses."""
        stop = asyncio.Event()
        writers = asyncio.gather(*(self._write(stop, large) for _ in range(WRITERS)))
        try:
            yield
        finally:
            stop.set()
            await writers

    async def _write(self, stop, large):
        while not stop.is_set():
            try:
                await self._transaction(large)
            except RollbackError:
                pass
            except OUTAGE:
                await asyncio.sleep(0.2)
            await asyncio.sleep(self.dice.uniform(0, 0.06))

    async def _transaction(self, large):
        async with self.database.transaction() as tx:
            for key in sorted(self.dice.sample(range(KEYS), self.dice.choice((1, 1, 2)))):
                text = "x" * (LARGE if self.dice.random() < large else 100)
                added = await outbox.add(tx, Wrote(id=f"k{key}", text=text))
                await tx.execute("INSERT INTO truth VALUES ($1, $2, $3)", added.id, f"k{key}", added.version)
            slow = self.dice.random() < 0.01  # longer than the relay needs to settle its floors
            await asyncio.sleep(2.5 if slow else self.dice.choice((0, 0, 0.005, 0.05)))  # commits overtake each other
            if self.dice.random() < 0.05:
                raise RollbackError

    async def hand_over(self):
        """Take a quarter of the leases away from their owners, who do not know it yet."""
        taken = self.dice.sample(range(256), 64)
        await self._quietly(self.database.execute, EXPIRE, taken)

    async def repair(self):
        """Do what a person would: skip the refused event of one key in two, and send what is behind it."""
        await self._quietly(self._repair)

    async def _repair(self):
        for row in await repair.blocked(self.database, repair.Wanted()):
            key = row["aggregatetype"], row["aggregateid"]
            if row["waiting"] and self.dice.random() < 0.5:
                await repair.skip(self.database, key, str(row["id"]), "chaos")
            self.repairs += (await repair.repair(self.database, self.producer, key, "chaos")).refused is None

    async def _quietly(self, call, *args):
        try:
            await call(*args)
        except (*OUTAGE, SendFailed):
            return

    async def allow_large(self):
        """Let the topic take every event."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.bootstrap)
        await admin.start()
        change = ConfigResource(ConfigResourceType.TOPIC, TOPIC, {"max.message.bytes": "1000000"})
        await admin.alter_configs([change])
        await admin.close()

    async def drained(self, seconds=60.0):
        """Wait until nothing waits any more, repairing what is blocked; on a timeout, what waits is lost."""
        try:
            await until(self._empty, seconds, pause=0.2)
        except TimeoutError:
            return

    async def _empty(self):
        await self.repair()
        tables = "SELECT FROM eventing.outbox UNION ALL SELECT FROM eventing.outbox_blocked LIMIT 1"
        return await self.database.fetch(tables) == []

    async def audit(self):
        """Compare what was committed with what lies in the topic."""
        committed = await self.database.fetch("SELECT id, key, version FROM truth")
        skipped = await self.database.fetch("SELECT event_id FROM eventing.outbox_audit WHERE what = 'skipped'")
        arrived = await read_topic(self.broker.bootstrap, TOPIC)
        return audit(
            [Event(str(row["id"]), row["key"], row["version"]) for row in committed],
            {str(row["event_id"]) for row in skipped},
            [_event(record) for record in arrived],
        )


class RollbackError(Exception):
    """A writer changed its mind."""


EXPIRE = """
    UPDATE eventing.outbox_lease SET owner = NULL, expires_at = '-infinity' WHERE bucket = ANY ($1::smallint[])
"""


def _event(record):
    known = dict(record.headers)
    return Event(known["ce_id"].decode(), record.key.decode(), int(known["ce_aggregateversion"]))
