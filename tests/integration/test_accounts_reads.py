"""Users are read through the cache: what an event has outdated never comes back, and without the cache reads go on."""

import secrets
import time

import pytest

from accounts import users
from accounts.profiles import Profiles
from contracts.users import CACHE
from eventing import Database
from eventing.cache import Cache
from eventing.migrate import migrate
from eventing.settings import Settings
from workbench.ports import free_port


@pytest.fixture(scope="module")
async def migrated(postgres):
    url = await postgres.create_database("accounts-reads")
    await migrate(url, "accounts")
    return url


@pytest.fixture
async def database(migrated):
    async with Database(migrated) as database:
        yield database


@pytest.fixture
async def cache(valkey):
    async with Cache(CACHE, Settings(cache_url=valkey.url)) as cache:
        yield cache


async def registered(database):
    async with database.transaction() as tx:
        user, _ = await users.register(tx, "Ada", f"{secrets.token_hex(4)}@example.com")
    return user


async def renamed(database, user, name):
    async with database.transaction() as tx:
        return await users.change(tx, user.id, name=name, email="")


async def test_a_user_is_read_from_the_cache_until_the_event_of_the_change_comes(database, cache):
    profiles, user = Profiles(database, cache), await registered(database)
    assert await profiles.find(user.id) == user
    changed = await renamed(database, user, "Ada King")
    assert (await profiles.find(user.id)).name == "Ada"
    await cache.invalidate(str(user.id), changed.version)
    assert await profiles.find(user.id) == changed


async def test_a_deleted_user_is_read_from_the_cache_until_the_event_of_the_deletion_comes(database, cache):
    profiles, user = Profiles(database, cache), await registered(database)
    await profiles.find(user.id)
    async with database.transaction() as tx:
        assert await users.delete(tx, user.id)
    assert await profiles.find(user.id) == user
    await cache.invalidate(str(user.id), user.version + 1)
    assert await profiles.find(user.id) is None


async def test_a_slow_reader_cannot_bring_back_what_an_event_has_outdated(database, cache):
    profiles, user = Profiles(database, cache), await registered(database)
    key = str(user.id)
    _, ticket = await cache.get(key)
    slow = await users.find(database, user.id)
    changed = await renamed(database, user, "Ada King")
    await cache.invalidate(key, changed.version)
    assert not await cache.fill(key, slow.facts(), slow.version, ticket)
    _, later = await cache.get(key)
    assert not await cache.fill(key, slow.facts(), slow.version, later), "it read from a replica that lags behind"
    assert await profiles.find(user.id) == changed


async def test_an_event_without_a_version_outdates_whatever_is_cached_and_the_readers_under_way(cache):
    key = secrets.token_hex(4)
    _, ticket = await cache.get(key)
    assert await cache.fill(key, {"name": "Ada"}, 7, ticket)
    _, ticket = await cache.get(key)
    assert await cache.invalidate(key, None) == "applied"
    assert not await cache.fill(key, {"name": "Ada"}, 7, ticket)
    assert (await cache.get(key))[0] is None


async def test_an_event_that_comes_late_or_twice_outdates_nothing_newer(cache):
    key = secrets.token_hex(4)
    assert await cache.invalidate(key, 2) == "applied"
    _, ticket = await cache.get(key)
    assert await cache.fill(key, {"name": "Ada King"}, 3, ticket)
    assert [await cache.invalidate(key, version) for version in (1, 2, 3)] == ["stale"] * 3
    assert (await cache.get(key))[0] == {"name": "Ada King"}


async def test_without_a_cache_users_are_read_from_the_database_and_soon_without_asking_it(database):
    user = await registered(database)
    async with Cache(CACHE, Settings(cache_url=f"valkey://127.0.0.1:{free_port()}")) as away:
        profiles = Profiles(database, away)
        assert await profiles.find(user.id) == user
        assert profiles._ask_again > time.monotonic()
        assert await profiles.find(user.id) == user


async def test_a_cached_profile_of_another_release_is_read_anew(database, cache):
    profiles, user = Profiles(database, cache), await registered(database)
    _, ticket = await cache.get(str(user.id))
    assert await cache.fill(str(user.id), {"id": str(user.id), "nickname": "Ada"}, 1, ticket)
    assert await profiles.find(user.id) == user
