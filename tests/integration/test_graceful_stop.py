"""SIGTERM with work in flight: not ready, drained, committed, gone; nothing is done twice."""

import asyncio
import secrets
import signal

import httpx
import pytest

from contracts.users import TOPIC, UserRegistered
from eventing import Database, outbox
from workbench.fleet import Fleet
from workbench.home import Home
from workbench.stack import Stack


@pytest.fixture(scope="module")
async def running(broker):
    """Start relay and two mailers; `broker` proves that Kafka is to be had."""
    async with Home.open() as home:
        stack = await Stack.start(home, lambda _: None)
        fleet = await Fleet.prepare(home, stack)
        await fleet.start(["accounts-relay", "mailer"])
        async with Database(stack.postgres.url("accounts")) as database:
            yield stack, fleet, database


async def register(database, count):
    for _ in range(count):
        user = secrets.token_hex(6)
        async with database.transaction() as tx:
            await outbox.add(tx, UserRegistered(user_id=user, name="Ada", email=f"{user}@example.com"))


class SlowMail:
    """A mail server that takes its time to answer."""

    def __init__(self, mailbox):
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        mailbox.before_answer = self

    async def __call__(self, _mail):
        self.begun.set()
        await self.go.wait()


async def test_work_in_flight_is_finished_committed_and_not_repeated(running):
    stack, fleet, database = running
    slow = SlowMail(stack.mailbox)
    await register(database, 1)
    await asyncio.wait_for(slow.begun.wait(), 20)
    async with httpx.AsyncClient(base_url=fleet.url("mailer"), timeout=5) as http:
        process = fleet.processes["mailer"]
        stopping = asyncio.create_task(process.stop())
        async with asyncio.timeout(5):
            while (answer := await http.get("/readyz")).status_code != 503:
                await asyncio.sleep(0.01)
        assert answer.json()["checks"]["process"] == "stopping"
        assert not stopping.done()
    stack.mailbox.before_answer = None
    slow.go.set()
    await asyncio.wait_for(stopping, 25)
    assert process.returncode == 0
    await fleet.start(["mailer"])
    await register(database, 1)
    await stack.mailbox.received(2)
    assert stack.mailbox.duplicates() == {}
    consumed = await counter(fleet.url("mailer"), "messaging_client_consumed_messages_total", TOPIC)
    assert consumed == 1, "the event that was in flight had been committed"


async def counter(url, name, topic):
    async with httpx.AsyncClient(base_url=url) as http:
        lines = (await http.get("/metrics")).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name) and f'topic="{topic}"' in line)


async def test_a_stopping_member_leaves_at_once_and_another_takes_over(running):
    stack, fleet, database = running
    await fleet.start(["mailer@2"])
    await fleet.stop("mailer")
    had, started = len(stack.mailbox.messages), asyncio.get_running_loop().time()
    await register(database, 12)
    await stack.mailbox.received(had + 12, 20)
    assert asyncio.get_running_loop().time() - started < 5, (
        "sooner than the session of a dead member would have timed out"
    )
    await fleet.stop("mailer@2")


async def test_ctrl_c_stops_a_process_as_sigterm_does(running):
    _, fleet, _ = running
    process = fleet.processes["accounts-relay"]
    import os

    os.kill(process.pid, signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 25) == 0
