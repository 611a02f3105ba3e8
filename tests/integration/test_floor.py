"""Floors: no committed row is ever below one, whatever runs and whichever server answers."""

import asyncio
from datetime import UTC, datetime

import pytest

from eventing import Contract, Database, floor, outbox
from eventing.lease import Leases
from eventing.migrate import migrate
from eventing.sql import load

READ = load("eventing", "outbox")["read"]


class Stepped(Contract, type="test.stepped.v1", topic="steps", key="id"):
    id: str


@pytest.fixture
async def db(database, monkeypatch):
    monkeypatch.setattr(floor, "EVERY", 0.0)
    url = await database()
    await migrate(url)
    async with Database(url) as opened:
        yield opened


@pytest.fixture
async def leases(db):
    leases = Leases(db, seconds=30)
    await leases.renew()
    return leases


async def add(db, key="k"):
    async with db.transaction() as tx:
        await outbox.add(tx, Stepped(id=key))


async def read(db, floors):
    buckets = range(256)
    rows = await db.fetch(READ, buckets, floors.of(buckets), 100, floors.server)
    floors.advance(buckets, {row["bucket"]: row["seq"] for row in reversed(rows)})
    return [row["seq"] for row in rows]


async def look(db, floors):
    """Look until what was drawn now would be settled, were nobody writing."""
    for _ in range(3):
        await floors.look()
    return await read(db, floors)


def of(floors, key="k"):
    return floors.of([outbox.bucket(key)])[0]


async def test_an_empty_bucket_is_done_up_to_what_was_drawn(db, leases):
    await add(db)
    await db.execute("DELETE FROM eventing.outbox")
    await look(db, leases.floors)
    assert of(leases.floors) == 1


async def test_a_row_that_waits_holds_the_floor_of_its_bucket_alone(db, leases):
    for key in ("k", "k", "l", "m"):
        await add(db, key)
    await db.execute("DELETE FROM eventing.outbox WHERE seq = 1")
    await look(db, leases.floors)
    assert (of(leases.floors, "k"), of(leases.floors, "other")) == (2, 4)


async def test_a_transaction_that_commits_late_is_read(db, leases):
    async with db.transaction() as tx:
        await outbox.add(tx, Stepped(id="late"))
        await add(db, "early")
        await db.execute("DELETE FROM eventing.outbox")
        assert await look(db, leases.floors) == []
        assert of(leases.floors, "late") == 0, "it may still commit"
    assert await look(db, leases.floors) == [1]


async def test_a_writer_that_begins_between_the_two_looks_is_read(db, leases, monkeypatch):
    looks, real, second, begun = [], db.fetchrow, asyncio.Event(), asyncio.Event()

    async def fetchrow(query, *args):
        looks.append(query)
        if len(looks) == 2:  # the number has been read, the transactions have not; or the other way round
            second.set()
            await begun.wait()
        return await real(query, *args)

    monkeypatch.setattr(db, "fetchrow", fetchrow)
    looking = asyncio.create_task(leases.floors.look())
    async with asyncio.timeout(10), db.transaction() as tx:
        await second.wait()
        await outbox.add(tx, Stepped(id="between"))
        await add(db, "later")
        await db.execute("DELETE FROM eventing.outbox")
        begun.set()
        await looking
        assert await look(db, leases.floors) == []
    assert await look(db, leases.floors) == [1]


async def test_a_reader_that_stays_open_does_not_hold_the_floors(db, leases):
    async with db.connection() as connection, connection.transaction(isolation="repeatable_read"):
        await connection.fetch("SELECT FROM eventing.outbox")
        await add(db)
        await db.execute("DELETE FROM eventing.outbox")
        await look(db, leases.floors)
        assert of(leases.floors) == 1


async def test_floors_of_another_server_are_not_used(db, leases):
    await add(db)
    leases.floors.learn(datetime(2000, 1, 1, tzinfo=UTC), dict.fromkeys(range(256), 1_000))
    assert await read(db, leases.floors) == [1]
    await leases.renew()
    assert of(leases.floors) == 0, "nor are they written down"


async def test_a_floor_outlives_its_relay(db, leases):
    await add(db)
    await db.execute("DELETE FROM eventing.outbox")
    await look(db, leases.floors)
    await leases.renew()
    await leases.leave()
    other = Leases(db, seconds=30)
    await other.renew()
    assert of(other.floors) == 1


@pytest.mark.parametrize("again", ["renew", "claim"])
async def test_a_sequence_that_was_set_back_voids_the_floors(db, leases, again):
    for _ in range(5):
        await add(db)
    await db.execute("DELETE FROM eventing.outbox")
    await look(db, leases.floors)
    await leases.renew()
    await db.execute("ALTER SEQUENCE eventing.outbox_seq_seq RESTART")
    if again == "claim":
        await leases.leave()
        leases = Leases(db, seconds=30)
    await leases.renew()
    await add(db)
    assert await look(db, leases.floors) == [1]


async def test_writers_and_floors_side_by_side_lose_nothing(db, leases):
    done = asyncio.Event()

    async def write(n):
        for turn in range(30):
            await add(db, f"k{n}-{turn % 3}")

    async def writing():
        await asyncio.gather(*(write(n) for n in range(8)))
        done.set()

    task, found = asyncio.create_task(writing()), []
    while not done.is_set() or await read(db, leases.floors):
        await leases.floors.look()
        seqs = await read(db, leases.floors)
        await db.execute("DELETE FROM eventing.outbox WHERE seq = ANY ($1)", seqs)
        found += seqs
    await task
    assert len(set(found)) == 8 * 30
    assert await db.fetch("SELECT FROM eventing.outbox") == []
