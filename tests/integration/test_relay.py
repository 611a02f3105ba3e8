"""The relay on a real database and a real broker: nothing lost, order kept, a bad row stops its own key only."""

import asyncio
import gc
from contextlib import asynccontextmanager

import asyncpg
import pytest
from tests.integration.rig import until

from eventing import Contract, Database, outbox
from eventing.errors import InvalidContract, StaleVersion, Unavailable, UnknownSchema
from eventing.migrate import migrate
from eventing.producer import Producer
from eventing.relay import Relay
from eventing.schema import VERSION, check
from eventing.settings import Settings
from workbench.records import read_topic
from workbench.topics import ensure_topics

ALL = [1, 2, 3, 4, 5, 6]


class Noted(Contract, type="test.noted.v1", topic="placeholder", key="id"):
    id: str
    text: str = ""


@pytest.fixture
async def db(database):
    url = await database()
    await migrate(url)
    async with Database(url, pool=40) as opened:
        yield opened


@pytest.fixture
async def topic(broker, topic_name, monkeypatch):
    name = topic_name("noted")
    await ensure_topics(broker.bootstrap, {name: 3})
    monkeypatch.setattr(Noted, "event_topic", name)
    return name


@pytest.fixture
def relaying(db, broker):
    @asynccontextmanager
    async def relaying(**changes):
        stop = asyncio.Event()
        options = {"lease": 2.0, "batch": 2000, "poll_max": 0.2} | changes
        async with Producer(Settings(kafka_bootstrap=broker.bootstrap, kafka_request_timeout=5)) as producer:
            relay = Relay(db, producer, **options)
            running = asyncio.create_task(relay.run(stop))
            try:
                yield relay
            finally:
                stop.set()
                await running

    return relaying


async def add(db, key, text="", **more):
    async with db.transaction() as tx:
        return await outbox.add(tx, Noted(id=key, text=text), **more)


async def emptied(db, left=0):
    async with asyncio.timeout(20):
        while await db.fetch("SELECT FROM eventing.outbox OFFSET $1", left):
            await asyncio.sleep(0.02)


def versions(records, key):
    return [int(dict(r.headers)["ce_aggregateversion"]) for r in records if r.key == key.encode()]


async def test_every_event_arrives_in_the_order_of_its_key(db, topic, relaying, broker):
    added = [await add(db, f"k{n % 7}") for n in range(70)]
    async with relaying():
        await emptied(db)
    records = await read_topic(broker.bootstrap, topic)
    assert {dict(r.headers)["ce_id"].decode() for r in records} == {str(a.id) for a in added}
    assert all(versions(records, f"k{n}") == list(range(1, 11)) for n in range(7))


async def test_a_rolled_back_transaction_publishes_nothing(db, topic, relaying, broker):
    async def fail():
        async with db.transaction() as tx:
            await outbox.add(tx, Noted(id="k"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    await add(db, "k")
    async with relaying():
        await emptied(db)
    assert versions(await read_topic(broker.bootstrap, topic), "k") == [1]


async def test_relays_share_the_buckets_and_take_over_from_one_that_left(db, topic, relaying):
    async with relaying() as first:
        async with relaying() as second:
            async with asyncio.timeout(10):
                while {len(first.leases.buckets), len(second.leases.buckets)} != {128}:
                    await asyncio.sleep(0.05)
            assert not set(first.leases.buckets) & set(second.leases.buckets)
        async with asyncio.timeout(10):
            while len(first.leases.buckets) != 256:
                await asyncio.sleep(0.05)


async def test_several_relays_keep_the_order_of_first_deliveries(db, topic, relaying, broker):
    async def write(writer):
        for n in range(60):
            await add(db, f"k{(writer * 7 + n) % 20}")

    async with relaying(lease=0.6), relaying(lease=0.6):
        writers = asyncio.gather(*(write(n) for n in range(8)))
        for _ in range(3):
            async with relaying(lease=0.6):  # buckets change hands while events flow
                await asyncio.sleep(0.4)
        await writers
        await emptied(db)
    records = await read_topic(broker.bootstrap, topic)
    for key in {r.key.decode() for r in records}:
        first_seen = list(dict.fromkeys(versions(records, key)))
        assert first_seen == list(range(1, len(first_seen) + 1))
    assert len({dict(r.headers)["ce_id"] for r in records}) == 8 * 60


async def test_a_refused_row_blocks_its_key_and_no_other(db, topic, topic_name, relaying, broker, monkeypatch):
    monkeypatch.setattr(Noted, "event_topic", topic_name("missing"))
    await add(db, "bad")
    monkeypatch.setattr(Noted, "event_topic", topic)
    await add(db, "bad")
    await add(db, "good")
    async with relaying():
        await emptied(db)
    assert [r.key for r in await read_topic(broker.bootstrap, topic)] == [b"good"]
    blocked = await db.fetchrow("SELECT aggregateid, reason FROM eventing.outbox_blocked_key")
    assert blocked["aggregateid"] == "bad"
    assert "does not exist" in blocked["reason"]
    waiting = await db.fetch("SELECT aggregateversion FROM eventing.outbox_blocked ORDER BY seq")
    assert [row["aggregateversion"] for row in waiting] == [1, 1] or len(waiting) == 2


async def test_a_row_that_is_too_large_blocks_its_key_alone_and_its_batch_arrives(
    db, topic_name, relaying, broker, monkeypatch
):
    small = topic_name("small")
    await ensure_topics(broker.bootstrap, {small: 1}, {"max.message.bytes": "9000"})
    monkeypatch.setattr(Noted, "event_topic", small)
    for n in range(30):
        await add(db, f"k{n % 5}", "x" * (20_000 if n == 11 else 500))
    async with relaying():
        await emptied(db)
    records = await read_topic(broker.bootstrap, small)
    assert [versions(records, f"k{n}") for n in range(5)] == [ALL, [1, 2], ALL, ALL, ALL]
    parked = await db.fetch("SELECT aggregateid, aggregateversion FROM eventing.outbox_blocked ORDER BY seq")
    assert [tuple(row) for row in parked] == [("k1", 3), ("k1", 4), ("k1", 5), ("k1", 6)]


async def test_a_blocked_key_with_many_rows_does_not_hold_up_its_bucket(db, topic, topic_name, relaying, monkeypatch):
    monkeypatch.setattr(Noted, "event_topic", topic_name("missing"))
    await add(db, "bad")
    async with relaying():
        await emptied(db)
    neighbour = next(f"n{n}" for n in range(10_000) if outbox.bucket(f"n{n}") == outbox.bucket("bad"))
    for _ in range(100):
        await add(db, "bad")
    monkeypatch.setattr(Noted, "event_topic", topic)
    await add(db, neighbour)
    async with relaying(batch=8, poll_max=5.0):
        await emptied(db)
    assert await db.fetch("SELECT FROM eventing.outbox_blocked OFFSET 101") == []
    assert len(await db.fetch("SELECT FROM eventing.outbox_blocked")) == 101


async def test_a_key_with_events_in_two_topics_keeps_its_order(db, topic, topic_name, relaying, broker, monkeypatch):
    other = topic_name("other")
    await ensure_topics(broker.bootstrap, {other: 1})
    monkeypatch.setattr(Noted, "event_aggregate", "note")
    for name in (topic, other, topic, topic, other):
        monkeypatch.setattr(Noted, "event_topic", name)
        await add(db, "k")
    async with relaying():
        await emptied(db)
    records = await read_topic(broker.bootstrap, topic) + await read_topic(broker.bootstrap, other)
    assert versions(sorted(records, key=lambda r: r.timestamp), "k") == [1, 2, 3, 4, 5]


async def test_a_row_another_relay_has_sent_blocks_nothing(db, topic, relaying):
    await add(db, "k")
    row = await db.fetchrow("SELECT * FROM eventing.outbox")
    await db.execute("DELETE FROM eventing.outbox")
    async with relaying() as relay:
        await relay._block(row, "refused here, taken there")
    assert await db.fetch("SELECT FROM eventing.outbox_blocked_key") == []


async def test_a_relay_that_joins_gets_its_share_long_before_a_lease_is_renewed(db, topic, relaying):
    async with relaying(lease=60.0) as first:
        await until(lambda: len(first.leases.buckets) == 256)
        await listening(db)
        async with relaying(lease=60.0) as second:
            await until(lambda: len(second.leases.buckets) == 128, 8)
            await until(lambda: len(first.leases.buckets) == 128, 8)


async def listening(db, count=1):
    query = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    await until(lambda: _count(db, query, count))


async def _count(db, query, count):
    return len(await db.fetch(query)) >= count


async def test_a_server_that_became_read_only_is_survived_on_new_connections(db, postgres, topic, relaying):
    name = await name_of(db)
    admin = await asyncpg.connect(postgres.url())
    async with relaying() as relay:
        await until(lambda: relay.leases.buckets)
        await admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        await until(lambda: "read-only" in (relay.outage or ""))
        with pytest.raises(Unavailable, match="read-only"):
            await relay.check()
        await admin.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')  # for new connections only
        await until(lambda: relay.outage is None)
        await add(db, "k")
        await emptied(db)
    await admin.close()


async def name_of(db):
    return (await db.fetchrow("SELECT current_database() AS name"))["name"]


async def test_a_hint_after_the_commit_wakes_an_idle_relay(db, topic, relaying):
    async with relaying(poll_max=30.0) as relay:
        while not relay.leases.buckets:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)  # let the polls become rare: nothing can be awaited here
        started = asyncio.get_running_loop().time()
        await add(db, "k")
        await emptied(db)
        assert asyncio.get_running_loop().time() - started < 5


async def test_a_database_that_closes_with_a_hint_under_way_waits_for_its_connection(db):
    complaints = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    async with Database(db.url) as closing:
        closing.later(lambda: closing.execute("SELECT pg_sleep(5)"))
        await until(lambda: db.fetch("SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(5)'"))
    gc.collect()
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    assert complaints == []


async def test_an_outage_of_the_broker_is_waited_for(db, topic, relaying, broker):
    async with relaying() as relay:
        await add(db, "k")
        await emptied(db)
        await broker.stop()
        added = await add(db, "k")
        async with asyncio.timeout(20):
            while relay.outage is None:
                await asyncio.sleep(0.05)
        await broker.resume()
        await emptied(db)
    ids = [dict(r.headers)["ce_id"].decode() for r in await read_topic(broker.bootstrap, topic)]
    assert str(added.id) in ids


async def test_a_version_that_is_not_newer_is_refused(db):
    await add(db, "k", version=5)
    with pytest.raises(StaleVersion, match="version 5"):
        await add(db, "k", version=5)
    assert (await add(db, "k", version=6)).version == 6


async def test_a_body_over_64_kib_is_refused_before_the_commit_with_its_field(db):
    with pytest.raises(InvalidContract, match="largest field is text"):
        await add(db, "k", text="x" * 70_000)
    assert await db.fetch("SELECT FROM eventing.outbox") == []


async def test_a_body_that_breaks_its_contract_is_refused_with_its_field(db):
    with pytest.raises(InvalidContract, match="text"):
        async with db.transaction() as tx:
            await outbox.add(tx, Noted.model_construct(id="k", text=5))


def test_the_code_knows_its_newest_tables():
    from importlib.resources import files

    newest = max(path.name for path in (files("eventing") / "migrations" / "versions").iterdir() if path.name[0] == "e")
    assert newest.startswith(f"{VERSION}_")


@pytest.mark.parametrize("found", ["e0002", "x0009", "none"])
async def test_tables_of_another_version_are_refused_with_the_command(db, found):
    await db.execute("UPDATE eventing_version SET version_num = $1", found)
    with pytest.raises(UnknownSchema, match=f"at version {found}.*run `eventing migrate`"):
        await check(db)


async def test_newer_tables_are_taken_as_they_are_since_migrations_only_expand(db):
    await db.execute("UPDATE eventing_version SET version_num = 'e9999'")
    await check(db)
    await migrate(db.url, "accounts")
    assert (await db.fetchrow("SELECT version_num FROM eventing_version"))["version_num"] == "e9999"
    assert await db.fetchrow("SELECT version_num FROM accounts_version"), "the service's own were upgraded"
