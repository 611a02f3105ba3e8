"""Behind PgBouncer in transaction mode, where each transaction may have another server: outbox, relay and inbox."""

import asyncio
import os
import shutil
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from tests.integration.rig import until

from eventing import Contract, Database, inbox, outbox
from eventing.event import Event
from eventing.migrate import migrate
from eventing.producer import Producer
from eventing.relay import Relay
from eventing.schema import check
from eventing.settings import Settings
from workbench.deadline import listens, ready
from workbench.ports import LOOPBACK, free_port
from workbench.records import read_topic
from workbench.topics import ensure_topics

SERVERS = 3  # connections the pooler has; ours are many more


class Pooled(Contract, type="test.pooled.v1", topic="placeholder", key="id"):
    id: str
    n: int


@pytest.fixture
async def pooler(home, lacking):
    """Start a pooler in front of a database; returns the address through it."""
    program = shutil.which("pgbouncer") or lacking("pgbouncer", "it is not there; Debian's package pgbouncer brings it")
    started = []

    async def start(url):
        place, port = urlsplit(url), free_port()
        settings = home.directory(f"pgbouncer-{port}") / "pgbouncer.ini"
        settings.write_text(f"""
[databases]
{place.path[1:]} = host={place.hostname} port={place.port} user={place.username}
[pgbouncer]
listen_addr = {LOOPBACK}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {SERVERS}
max_client_conn = 200
""")
        settings.parent.chmod(0o755)
        user = "nobody" if os.geteuid() == 0 else None
        process = await home.spawn(f"pgbouncer-{port}", [program, settings], user=user)
        started.append(process)
        await ready(process, lambda: listens(LOOPBACK, port))
        return f"postgresql://postgres@{LOOPBACK}:{port}{place.path}"

    yield start
    for process in started:
        await process.kill()


@pytest.fixture
async def url(pooler, database):
    direct = await database()
    await migrate(direct)
    return await pooler(direct)


async def test_many_writers_and_two_relays_lose_and_reorder_nothing(url, broker, topic_name, monkeypatch):
    topic = topic_name("pooled")
    await ensure_topics(broker.bootstrap, {topic: 3})
    monkeypatch.setattr(Pooled, "event_topic", topic)
    stop = asyncio.Event()
    async with Database(url, pool=30, pooler=True) as db, asyncio.TaskGroup() as group:
        await check(db)
        for _ in range(2):
            producer = Producer(Settings(kafka_bootstrap=broker.bootstrap, kafka_request_timeout=5))
            group.create_task(relayed(url, producer, stop))
        await asyncio.gather(*(written(db, f"k{key}") for key in range(20)))
        await until(lambda: emptied(db), 30)
        stop.set()
    records = await read_topic(broker.bootstrap, topic)
    for key in range(20):
        numbers = [Pooled.decode(record.value).n for record in records if record.key == f"k{key}".encode()]
        assert list(dict.fromkeys(numbers)) == list(range(20)), "first deliveries, in order"


async def relayed(url, producer, stop):
    async with producer, Database(url, pool=5, pooler=True) as db:
        await Relay(db, producer, lease=2.0, batch=50, poll_max=0.1).run(stop)


async def written(db, key):
    for n in range(20):
        async with db.transaction() as tx:
            await outbox.add(tx, Pooled(id=key, n=n))


async def emptied(db):
    return not await db.fetch("SELECT FROM eventing.outbox LIMIT 1")


async def test_a_duplicate_is_one_for_every_server_of_the_pooler(url, broker):
    async with Database(url, pool=30, pooler=True) as db:
        await inbox.maintain(db, 7)

        async def claimed(event):
            async with db.transaction() as tx:
                return await inbox.claim(tx, "g", event)

        events = [event(f"e{n}") for n in range(20)] * 3
        assert sum(await asyncio.gather(*map(claimed, events))) == 20


def event(event_id):
    return Event(event_id, "test.pooled.v1", "/s", "k", b"{}", datetime.now(UTC), "t", 0, 0)
