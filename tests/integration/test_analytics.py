"""Analytics: the audit log has everything, statistics count once, the stream shows what the database says."""

import asyncio
import itertools
import json
import sys
from datetime import UTC, datetime

import httpx
import pytest

from analytics.handlers import record
from contracts.users import UserDeleted, UserRegistered, UserUpdated
from eventing import Database, Event
from eventing.migrate import migrate
from workbench.home import Home
from workbench.ports import free_port

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
async def running(home: Home, postgres):
    """Start two API processes on one database."""
    url = await postgres.create_database("analytics-over-http")
    await migrate(url, "analytics")
    clients, processes = [], []
    for number in range(2):
        port = free_port()
        known = {"EVENTING_DATABASE_URL": url, "EVENTING_HTTP_PORT": str(port)}
        argv = [sys.executable, "-m", "eventing.cli", "serve", "analytics.api"]
        processes.append(await home.spawn(f"analytics-{number}", argv, env=known))
        clients.append(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10))
    for process in processes:
        await process.says("api_started", 30)
    async with Database(url) as db:
        yield db, clients, processes
    for client, process in zip(clients, processes, strict=True):
        await client.aclose()
        await process.stop()


@pytest.fixture
async def known(running):
    """Empty the tables; returns a function that records events, and the clients."""
    db, clients, _ = running
    numbers = itertools.count()
    await db.execute("TRUNCATE audit_log, member, daily")

    async def happened(contract, user, version=None):
        body = contract(user_id=user).encode()
        at = next(numbers)
        event = Event(f"e{at}", contract.event_type, "/s", user, body, NOW, "user-events", 0, at, version=version)
        async with db.transaction() as tx:
            await record(event, tx)

    return happened, clients


async def stats(client):
    return (await client.get("/stats")).json()


async def test_a_user_is_counted_once_however_often_registered(known):
    happened, clients = known
    for _ in range(3):
        await happened(UserRegistered, "u1")
    await happened(UserRegistered, "u2", 1)
    found = await stats(clients[0])
    assert (found["activeUsers"], found["events"]) == (2, 4)
    assert found["registrationsPerDay"] == [{"day": "2026-11-24", "count": 2}]


async def test_a_deleted_user_is_not_active_whatever_comes_first(known):
    happened, clients = known
    await happened(UserRegistered, "u1", 1)
    await happened(UserDeleted, "u1", 3)
    await happened(UserDeleted, "u1", 3)
    await happened(UserDeleted, "u2", 2)
    await happened(UserRegistered, "u2", 1)
    assert (await stats(clients[1]))["activeUsers"] == 0


async def test_transactions_side_by_side_neither_block_each_other_for_ever_nor_miscount(known):
    happened, clients = known
    kinds = [UserRegistered, UserUpdated, UserDeleted]
    await asyncio.gather(*(happened(kinds[n % 3], f"u{n // 3}", n % 3 + 1) for n in range(90)))
    found = await stats(clients[0])
    assert (found["events"], found["activeUsers"]) == (90, 0)


async def test_the_history_of_a_user_comes_in_pages(known):
    happened, clients = known
    for version in range(1, 6):
        await happened(UserUpdated, "u1", version)
    first = (await clients[0].get("/users/u1/history?limit=3")).json()
    second = (await clients[0].get(f"/users/u1/history?limit=3&after={first['next']}")).json()
    assert [entry["version"] for entry in first["entries"] + second["entries"]] == [1, 2, 3, 4, 5]
    assert second["next"] is None
    assert first["entries"][0]["body"] == {"userId": "u1", "action": "updated"}
    assert (await clients[0].get("/users/nobody/history")).status_code == 404


async def test_a_user_whose_id_another_system_made_can_be_asked_for(known):
    happened, clients = known
    await happened(UserUpdated, "eu/7 ö?", 1)
    found = (await clients[0].get("/users/eu%2F7%20%C3%B6%3F/history")).json()
    assert [entry["version"] for entry in found["entries"]] == [1]


async def snapshots(client):
    async with client.stream("GET", "/stats/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


async def test_every_message_of_the_stream_is_a_whole_snapshot_on_both_processes(known):
    happened, clients = known
    streams = [snapshots(client) for client in clients]
    firsts = [await asyncio.wait_for(anext(stream), 10) for stream in streams]
    assert [first["events"] for first in firsts] == [0, 0]
    await happened(UserRegistered, "u1", 1)
    for stream in streams:
        async with asyncio.timeout(10):
            while (found := await anext(stream))["events"] != 1:
                pass
        assert (found["activeUsers"], found["registrationsPerDay"]) == (1, [{"day": "2026-11-24", "count": 1}])
        await stream.aclose()


async def test_open_streams_end_when_the_process_stops(known, running):
    _, clients, processes = running
    stream = snapshots(clients[1])
    await anext(stream)
    started = asyncio.get_running_loop().time()
    stopping = asyncio.create_task(processes[1].stop())
    assert [found async for found in stream] == []
    await stopping
    assert processes[1].returncode == 0
    assert asyncio.get_running_loop().time() - started < 5
