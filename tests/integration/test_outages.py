"""A part is away: requests are accepted whenever the database is up, and everything arrives afterwards."""

import asyncio
import secrets
from contextlib import asynccontextmanager

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts.users import TOPIC
from eventing import Database
from eventing.dead_letter import topic_of
from workbench.fleet import GROUPS, PARTITIONS, ROLES, Fleet
from workbench.home import Home
from workbench.records import read_topic
from workbench.stack import Stack

QUICK = {
    "MAILER_SMTP_TIMEOUT": "2",
    "EVENTING_CONSUMER_SESSION_TIMEOUT": "6",
    "EVENTING_KAFKA_REQUEST_TIMEOUT": "5",
    "EVENTING_DATABASE_TIMEOUT": "3",
    "EVENTING_RELAY_LEASE": "3",
}
CONSUMERS = ("mailer", "analytics", "profile-cache")
AWAY = 30  # seconds Kafka is down while running
HANGS = {"postgres": 12, "broker": 12, "valkey": 3}  # seconds a part does not answer: longer than any timeout


class Refused(Exception):
    """A request was not answered with 201."""


class Company:
    """The running services, and the users they have."""

    def __init__(self, stack, fleet):
        self.stack, self.fleet = stack, fleet
        self.addresses, self.unsure = [], []
        self.http = httpx.AsyncClient(base_url=fleet.url("accounts-api"), timeout=15)

    async def register(self, count=5):
        for _ in range(count):
            await self.post(f"{secrets.token_hex(6)}@example.com", secrets.token_hex(8))

    async def post(self, address, key):
        body, headers = {"name": "Ada", "email": address}, {"Idempotency-Key": key}
        answer = await self.http.post("/users", json=body, headers=headers)
        if answer.status_code != 201:
            self.unsure.append((address, key))  # refused, or committed just before the answer was lost
            raise Refused(answer.status_code)
        self.addresses.append(address)

    async def repeat(self):
        """Repeat what was refused, as clients do."""
        again, self.unsure = self.unsure, []
        for address, key in again:
            await self.post(address, key)

    async def done(self, seconds=60):
        """Wait until every registration has its mail, its line in the audit log and nothing waits anywhere."""
        async with (
            asyncio.timeout(seconds),
            Database(self.stack.postgres.url("analytics")) as analytics,
            Database(self.stack.postgres.url("accounts")) as accounts,
        ):
            while await accounts.fetch("SELECT FROM eventing.outbox LIMIT 1"):
                await asyncio.sleep(0.1)
            while (await analytics.fetchrow("SELECT count(*) FROM audit_log"))["count"] < len(self.addresses):
                await asyncio.sleep(0.1)
            await self.stack.mailbox.received(len(self.addresses), seconds)
            for group in GROUPS:
                while await self.lag(group):
                    await asyncio.sleep(0.1)
        assert sorted(mail.recipients[0] for mail in self.stack.mailbox.messages) == sorted(self.addresses)
        for group in GROUPS:
            assert await read_topic(self.stack.broker.bootstrap, topic_of(TOPIC, group)) == []

    async def lag(self, group):
        """Return how many records of `user-events` a group has not finished."""
        async with AIOKafkaConsumer(bootstrap_servers=self.stack.broker.bootstrap, group_id=group) as reader:
            ends = await reader.end_offsets([TopicPartition(TOPIC, n) for n in range(PARTITIONS)])
            return sum([end - (await reader.committed(tp) or 0) for tp, end in ends.items()])

    async def says(self, name, words, seconds=40):
        """Wait until a service's readiness says something; its liveness holds meanwhile."""
        async with asyncio.timeout(seconds), httpx.AsyncClient(base_url=self.fleet.url(name), timeout=5) as http:
            while words not in (said := (await http.get("/readyz")).text):
                await asyncio.sleep(0.1)
            assert (await http.get("/livez")).status_code == 200
        return said


@pytest.fixture(scope="module")
async def begun(broker):
    """Start every service while Kafka is away; `broker` proves that it is to be had."""
    async with Home.open() as home:
        stack = await Stack.start(home, lambda _: None)
        fleet = await Fleet.prepare(home, stack, QUICK)
        await stack.broker.stop()
        await fleet.start(ROLES, ready=False)
        company = Company(stack, fleet)
        yield company
        await company.http.aclose()


@pytest.fixture
async def company(begun):
    """Let every service run as it should, whatever was before."""
    if begun.stack.broker.process.returncode is not None:
        await begun.stack.broker.resume()
    for name in ROLES:
        await begun.fleet.ready(name)
    return begun


async def test_kafka_down_at_start(begun):
    company = begun
    await company.fleet.ready("accounts-api")
    await company.register()
    assert "cannot reach Kafka" in await company.says("mailer", "cannot reach Kafka")
    await company.says("accounts-relay", "kafka")
    assert await until_reachable(company, "mailer") == 503, "not ready from its first answer on"
    await company.stack.broker.resume()
    for name in ROLES:
        await company.fleet.ready(name)
    await company.done()


async def until_reachable(company, name):
    """Kill a service, start it, and return the first answer of its readiness."""
    await company.fleet.kill(name)
    await company.fleet.start([name], ready=False)
    async with asyncio.timeout(30), httpx.AsyncClient(base_url=company.fleet.url(name)) as http:
        while True:
            try:
                return (await http.get("/readyz")).status_code
            except httpx.TransportError:
                await asyncio.sleep(0.001)


async def test_kafka_down_for_half_a_minute_while_running(company):
    await company.register()
    await company.stack.broker.stop()
    up_again = asyncio.get_running_loop().time() + AWAY
    await company.register()
    said = await company.says("accounts-relay", '"ready":false')
    assert '"database":"ok"' in said
    for name in CONSUMERS:
        await company.says(name, "Kafka does not answer")
    while asyncio.get_running_loop().time() < up_again:
        await company.register(1)
        await asyncio.sleep(1)
    await company.stack.broker.resume()
    await company.done()
    for name in ROLES:
        await company.fleet.ready(name)


async def test_postgresql_restarted_while_events_flow(company):
    registering = asyncio.create_task(company.register(10_000))
    await asyncio.wait([registering], timeout=0.2)
    await company.stack.postgres.stop()
    with pytest.raises(Refused, match="503"):
        await registering
    assert "database" in await company.says("accounts-api", '"ready":false')
    await company.stack.postgres.resume()
    await recovered(company)


async def recovered(company):
    """Assert that all is as if nothing had happened."""
    for name in ROLES:
        await company.fleet.ready(name)
    await company.repeat()
    await company.register()
    await company.done()


@pytest.mark.parametrize("part", HANGS)
async def test_a_part_that_hangs_ends_no_process_and_loses_nothing(company, part):
    await company.register()
    process, started = getattr(company.stack, part).process, asyncio.get_running_loop().time()
    process.freeze()  # connections stay open, nothing answers: every wait has to end by itself
    try:
        answers = await asyncio.gather(*(company.register(1) for _ in range(12)), return_exceptions=True)
        assert asyncio.get_running_loop().time() - started < 10
        while asyncio.get_running_loop().time() - started < HANGS[part]:
            await asyncio.sleep(0.5)
    finally:
        process.thaw()
    assert {type(answer) for answer in answers} == {Refused if part == "postgres" else type(None)}
    assert {name: company.fleet.processes[name].returncode for name in ROLES} == dict.fromkeys(ROLES)
    await recovered(company)


async def test_valkey_gone(company):
    await company.stack.valkey.stop()
    await company.register()
    async with Database(company.stack.postgres.url("accounts")) as db:
        user = (await db.fetchrow("SELECT id FROM users LIMIT 1"))["id"]
    assert (await company.http.get(f"/users/{user}")).status_code == 200
    assert "cache" in await company.says("accounts-api", "the cache does not answer")
    await company.says("profile-cache", "the cache does not answer")
    await company.stack.valkey.resume()
    await company.done()
    await company.says("profile-cache", '"handlers":"ok"')


@pytest.mark.parametrize("trouble", ["away", "silent", "421 4.3.2 closing", "451 4.3.0 not now"])
async def test_the_mail_server_in_trouble(company, trouble):
    mailbox = company.stack.mailbox
    async with in_trouble(mailbox, trouble) as met:
        await company.register()
        if trouble.startswith("451"):  # that is about one mail, not about the server
            await asyncio.wait_for(met.wait(), 20)
        else:
            await company.says("mailer", "the mail server")
    await company.done()


@asynccontextmanager
async def in_trouble(mailbox, trouble):
    """Have mail trouble while the block runs; yields an event that is set once a recipient was refused."""
    met = asyncio.Event()
    if trouble[0].isdigit():
        mailbox.refuse(lambda _address: met.set() or trouble)
        yield met
        mailbox.refuse(None)
        return
    await mailbox.stop()
    loop = asyncio.get_running_loop()
    silent = await loop.create_server(asyncio.Protocol, "127.0.0.1", mailbox.port) if trouble == "silent" else None
    yield met
    if silent:
        silent.close()
        silent.abort_clients()
        await silent.wait_closed()
    await mailbox.resume()


async def test_everything_stops_within_its_time(company):
    await company.fleet.stop(*ROLES)
    assert {name: company.fleet.processes[name].returncode for name in ROLES} == dict.fromkeys(ROLES, 0)
