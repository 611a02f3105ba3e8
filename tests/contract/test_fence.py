"""Parked keys: one contract of the memory of the harness and the tables in PostgreSQL."""

import asyncio
import secrets

import pytest

from eventing import Database
from eventing.fence import PostgresFence
from eventing.port import Spot
from eventing.testing.fence import MemoryFence


def spot(offset, *, key=b"k", topic="ticks", partition=0):
    return Spot(topic, key, partition, offset)


@pytest.fixture
async def opened(migrated):
    async with Database(migrated, pool=20) as database:
        yield database


@pytest.fixture
def postgres_fence(opened):
    return PostgresFence(opened, f"g-{secrets.token_hex(4)}")


@pytest.fixture
def memory_fence():
    return MemoryFence()


@pytest.fixture(params=["memory", "postgres"])
def fence(request):
    return request.getfixturevalue(f"{request.param}_fence")


async def test_a_key_that_is_not_parked_is_free(fence):
    assert await fence.keys() == set()
    assert await fence.enter(spot(0)) == "free"
    assert await fence.lift(spot(0))


async def test_records_of_a_parked_key_stand_behind_its_first_one(fence):
    await fence.park(spot(5))
    assert await fence.keys() == {("ticks", b"k")}
    assert [await fence.enter(spot(offset)) for offset in (5, 6, 7, 6)] == ["head", "behind", "behind", "behind"]


async def test_what_was_finished_before_the_key_was_parked_has_passed(fence):
    await fence.park(spot(5))
    assert await fence.enter(spot(4)) == "passed"
    assert not await fence.lift(spot(4))
    assert await fence.enter(spot(5)) == "head"


async def test_records_are_struck_off_in_order_and_the_last_one_frees_the_key(fence):
    await fence.park(spot(5))
    await fence.enter(spot(6))
    await fence.enter(spot(9))
    freed = []
    for offset in (5, 6, 9):
        assert await fence.enter(spot(offset)) == "head"
        freed.append(await fence.lift(spot(offset)))
    assert freed == [False, False, True]
    assert await fence.keys() == set()
    assert await fence.enter(spot(10)) == "free"


async def test_a_record_that_is_parked_or_struck_off_twice_counts_once(fence):
    for _ in range(2):
        await fence.park(spot(5))
        await fence.enter(spot(6))
    assert not await fence.lift(spot(5))
    assert not await fence.lift(spot(5))
    assert await fence.lift(spot(6))
    assert await fence.lift(spot(6))


async def test_the_parked_records_of_a_range_are_told(fence):
    for known in (spot(4), spot(5), spot(7, key=b"other"), spot(8), spot(6, partition=1), spot(6, topic="tocks")):
        await fence.park(known)
    assert sorted(await fence.parked("ticks", 0, 5, 8), key=lambda s: s.offset) == [spot(5), spot(7, key=b"other")]


async def test_keys_topics_and_partitions_are_apart(fence):
    await fence.park(spot(5))
    assert await fence.enter(spot(9, key=b"other")) == "free"
    assert await fence.enter(spot(9, topic="tocks")) == "free"
    assert await fence.enter(spot(9, partition=1)) == "head"
    await fence.park(spot(2, partition=1))
    assert await fence.enter(spot(9, partition=1)) == "behind"
    assert not await fence.lift(spot(5))
    assert await fence.enter(spot(2, partition=1)) == "head"


@pytest.mark.parametrize("key", [b"", b"\x00\xff'; DROP TABLE", b"k" * 2_000])
async def test_a_key_may_be_any_bytes(fence, key):
    await fence.park(spot(1, key=key))
    assert await fence.keys() == {("ticks", key)}
    assert await fence.enter(spot(1, key=key)) == "head"
    assert await fence.lift(spot(1, key=key))


async def test_offsets_are_as_large_as_kafkas(fence):
    await fence.park(spot(2**62))
    assert await fence.enter(spot(2**62 + 1)) == "behind"


async def test_keys_that_were_parked_lately_are_told_by_themselves(postgres_fence, opened):
    await postgres_fence.park(spot(1, key=b"old"))
    await opened.execute("UPDATE eventing.parked_key SET since = since - interval '1 minute' WHERE key = 'old'")
    await postgres_fence.park(spot(1, key=b"new"))
    assert await postgres_fence.keys(within=30) == {("ticks", b"new")}
    assert await postgres_fence.keys(within=90) == {("ticks", b"new"), ("ticks", b"old")}


async def test_groups_know_nothing_of_each_other(opened):
    one, other = (PostgresFence(opened, f"g-{secrets.token_hex(4)}") for _ in range(2))
    await one.park(spot(5))
    assert await other.keys() == set()
    assert await other.enter(spot(6)) == "free"


async def test_an_event_that_comes_while_its_key_is_freed_is_either_behind_it_or_free(postgres_fence):
    seen = set()
    for last in range(0, 200, 2):
        await postgres_fence.park(spot(last))
        freed, entered = await asyncio.gather(postgres_fence.lift(spot(last)), postgres_fence.enter(spot(last + 1)))
        seen.add((freed, entered))
        parked = {("ticks", b"k")} if entered == "behind" else set()
        assert await postgres_fence.keys() == parked
        await postgres_fence.lift(spot(last + 1))
    assert seen <= {(True, "free"), (False, "behind")}


async def test_many_records_are_parked_at_once(postgres_fence):
    await asyncio.gather(*(postgres_fence.park(spot(n, key=b"%d" % (n % 5))) for n in range(100)))
    assert len(await postgres_fence.keys()) == 5
    freed = await asyncio.gather(*(postgres_fence.lift(spot(n, key=b"%d" % (n % 5))) for n in range(100)))
    assert sum(freed) == 5
    assert await postgres_fence.keys() == set()


async def test_members_that_park_and_free_different_keys_do_not_wait_for_each_other(postgres_fence, opened):
    await postgres_fence.park(spot(1))
    async with opened.transaction() as tx:
        await tx.execute("SELECT FROM eventing.parked_key WHERE key = $1 FOR UPDATE", b"k")
        async with asyncio.timeout(2):
            await postgres_fence.park(spot(1, key=b"other"))
            assert await postgres_fence.lift(spot(1, key=b"other"))
