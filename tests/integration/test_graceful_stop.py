"""SIGTERM with work in flight: not ready, drained, committed, gone; nothing is done twice."""

import asyncio
import secrets
import signal

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts.users import TOPIC, UserRegistered
from eventing import Database, outbox
from workbench.fleet import PARTITIONS, Fleet
from workbench.home import Home
from workbench.stack import Stack

AT_ONCE = 8  # handlers a mailer runs
SETTINGS = {
    "EVENTING_CONSUMER_CONCURRENCY": str(AT_ONCE),
    "EVENTING_CONSUMER_DRAIN_TIMEOUT": "2.5",
    "MAILER_SMTP_TIMEOUT": "6",  # half of it for an answer; in doubt after one and a half times
    "MAILER_SMTP_CONNECTIONS": str(AT_ONCE),
}


class Desk:
    """Services, and what a test does with them."""

    def __init__(self, stack, fleet, database):
        self.stack, self.fleet, self.database = stack, fleet, database

    async def register(self, count):
        for _ in range(count):
            user = secrets.token_hex(6)
            async with self.database.transaction() as tx:
                await outbox.add(tx, UserRegistered(user_id=user, name="Ada", email=f"{user}@example.com"))

    async def ends(self):
        """Return how many records the topic has."""
        async with AIOKafkaConsumer(bootstrap_servers=self.stack.broker.bootstrap) as reader:
            ends = await reader.end_offsets([TopicPartition(TOPIC, n) for n in range(PARTITIONS)])
        return sum(ends.values())

    async def committed(self):
        """Return how many records the mailers have committed."""
        bootstrap = self.stack.broker.bootstrap
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id="mailer") as reader:
            return sum([await reader.committed(TopicPartition(TOPIC, n)) or 0 for n in range(PARTITIONS)])

    async def intents(self):
        """Return how many mails there are by state, attempts and doubts."""
        async with Database(self.stack.postgres.url("mailer")) as mailer:
            rows = await mailer.fetch("SELECT state, attempts, doubts, count(*) FROM mail_intent GROUP BY 1, 2, 3")
        return {tuple(row)[:3]: row["count"] for row in rows}

    async def consumed(self):
        """Return how many records the broker has delivered to the mailer since it started."""
        async with httpx.AsyncClient(base_url=self.fleet.url("mailer")) as http:
            lines = (await http.get("/metrics")).text.splitlines()
        mine = [line for line in lines if line.startswith("messaging_client_consumed") and f'topic="{TOPIC}"' in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in mine)


@pytest.fixture
async def desk(broker):
    """Start relay and mailer; `broker` proves that Kafka is to be had."""
    async with Home.open() as home:
        stack = await Stack.start(home, lambda _: None)
        fleet = await Fleet.prepare(home, stack, SETTINGS)
        await fleet.start(["accounts-relay", "mailer"])
        async with Database(stack.postgres.url("accounts")) as database:
            yield Desk(stack, fleet, database)


class SlowMail:
    """A mail server that takes its time to answer."""

    def __init__(self, mailbox):
        self.go = asyncio.Event()
        self._mailbox = mailbox
        mailbox.before_answer = self

    async def __call__(self, _mail):
        await self.go.wait()

    def answer(self):
        """Answer everything, now and later."""
        self._mailbox.before_answer = None
        self.go.set()


async def unready(desk, name):
    """Wait until a service that got its signal says that it is stopping."""
    async with httpx.AsyncClient(base_url=desk.fleet.url(name), timeout=5) as http, asyncio.timeout(1):
        while (answer := await http.get("/readyz")).status_code != 503:
            await asyncio.sleep(0.01)
    assert answer.json()["checks"]["process"] == "stopping"


async def test_what_runs_is_finished_what_waits_is_left_and_nothing_comes_twice(desk):
    slow, more = SlowMail(desk.stack.mailbox), 12
    await desk.register(AT_ONCE + more)
    await desk.stack.mailbox.received(AT_ONCE, 20)
    while await desk.ends() < AT_ONCE + more:
        await asyncio.sleep(0.05)
    process = desk.fleet.processes["mailer"]
    stopping = asyncio.create_task(process.stop())
    await unready(desk, "mailer")
    assert not stopping.done()
    slow.answer()
    assert await asyncio.wait_for(stopping, 25) == 0
    assert len(desk.stack.mailbox.messages) == AT_ONCE == await desk.committed()
    assert await desk.intents() == {("sent", 1, 0): AT_ONCE}
    await desk.fleet.start(["mailer"])
    await desk.stack.mailbox.received(AT_ONCE + more, 20)
    assert await desk.consumed() == more, "what was in flight had been committed"
    assert desk.stack.mailbox.duplicates() == {}


async def test_a_handler_that_does_not_end_is_cut_and_its_event_comes_again(desk):
    slow = SlowMail(desk.stack.mailbox)
    await desk.register(1)
    await desk.stack.mailbox.received(1, 20)
    started = asyncio.get_running_loop().time()
    assert await desk.fleet.processes["mailer"].stop() == 0
    assert 2 < asyncio.get_running_loop().time() - started < 10
    assert await desk.committed() == 0
    assert await desk.intents() == {("sending", 1, 0): 1}
    slow.answer()
    await desk.fleet.start(["mailer"])
    await desk.stack.mailbox.received(2, 20)  # nobody knows whether the first one was taken: counted, not hidden
    while await desk.committed() < 1:
        await asyncio.sleep(0.05)
    assert await desk.intents() == {("sent", 2, 1): 1}


async def test_a_stopping_member_leaves_at_once_and_another_takes_over(desk):
    await desk.fleet.start(["mailer@2"])
    await desk.register(12)
    await desk.stack.mailbox.received(12, 20)
    started = asyncio.get_running_loop().time()
    await desk.fleet.stop("mailer")
    await desk.register(24)
    await desk.stack.mailbox.received(36, 20)
    assert asyncio.get_running_loop().time() - started < 5, "sooner than the session of a dead member times out"
    assert desk.stack.mailbox.duplicates() == {}


async def test_a_request_in_flight_is_answered(desk):
    await desk.fleet.start(["accounts-api"])
    async with httpx.AsyncClient(base_url=desk.fleet.url("accounts-api"), timeout=20) as http:
        user = (await http.post("/users", json={"name": "Ada", "email": "ada@example.com"})).json()
        async with desk.database.transaction() as tx:  # the request has to wait for this row
            await tx.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", user["userId"])
            path = f"/users/{user['userId']}"
            changing = asyncio.create_task(http.patch(path, json={"name": "Ada King"}))
            waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = 'accounts'"
            while not await tx.fetch(waits):
                await asyncio.sleep(0.02)
            stopping = asyncio.create_task(desk.fleet.processes["accounts-api"].stop())
            await asyncio.wait([stopping], timeout=0.5)
            assert not stopping.done()
        assert (await changing).json()["name"] == "Ada King"
    assert await asyncio.wait_for(stopping, 25) == 0


async def test_ctrl_c_stops_every_process_as_sigterm_does(desk):
    for process in desk.fleet.processes.values():
        process._child.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(asyncio.gather(*(p.wait() for p in desk.fleet.processes.values())), 25) == [0, 0]
