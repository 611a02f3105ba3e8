"""A part is away: requests are accepted whenever the database is up, and everything arrives afterwards."""

import asyncio
import secrets

import httpx
import pytest

from contracts.users import TOPIC
from eventing import Database
from eventing.dead_letter import topic_of
from workbench.fleet import GROUPS, ROLES, Fleet
from workbench.home import Home
from workbench.records import read_topic
from workbench.stack import Stack

QUICK = {
    "MAILER_SMTP_TIMEOUT": "2",
    "EVENTING_CONSUMER_SESSION_TIMEOUT": "6",
    "EVENTING_KAFKA_REQUEST_TIMEOUT": "5",
    "EVENTING_RELAY_LEASE": "3",
}
AWAY = 30  # seconds Kafka is down while running


class Company:
    """The running services, and the users they have."""

    def __init__(self, stack, fleet):
        self.stack, self.fleet = stack, fleet
        self.addresses = []
        self.http = httpx.AsyncClient(base_url=fleet.url("accounts-api"), timeout=15)

    async def register(self, count=5):
        for _ in range(count):
            address = f"{secrets.token_hex(6)}@example.com"
            answer = await self.http.post("/users", json={"name": "Ada", "email": address})
            assert answer.status_code == 201, answer.text
            self.addresses.append(address)

    async def done(self, seconds=60):
        """Wait until every registration has its mail, its line in the audit log and nothing waits in the outbox."""
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
        assert sorted(mail.recipients[0] for mail in self.stack.mailbox.messages) == sorted(self.addresses)
        for group in GROUPS:
            assert await read_topic(self.stack.broker.bootstrap, topic_of(TOPIC, group)) == []

    async def says(self, name, words, seconds=40):
        """Wait until a service's readiness says something; its liveness holds meanwhile."""
        async with asyncio.timeout(seconds), httpx.AsyncClient(base_url=self.fleet.url(name), timeout=5) as http:
            while words not in (said := (await http.get("/readyz")).text):
                await asyncio.sleep(0.1)
            assert (await http.get("/livez")).status_code == 200
        return said


@pytest.fixture(scope="module")
async def company(broker):
    """Start every service while Kafka is away; `broker` proves that it is to be had."""
    async with Home.open() as home:
        stack = await Stack.start(home, lambda _: None)
        fleet = await Fleet.prepare(home, stack, QUICK)
        await stack.broker.stop()
        await fleet.start(ROLES, ready=False)
        company = Company(stack, fleet)
        yield company
        await company.http.aclose()


async def test_kafka_down_at_start(company):
    await company.fleet.ready("accounts-api")
    await company.register()
    assert "cannot reach Kafka" in await company.says("mailer", "cannot reach Kafka")
    await company.says("accounts-relay", "kafka")
    await company.stack.broker.resume()
    for name in ROLES:
        await company.fleet.ready(name)
    await company.done()


async def test_kafka_down_for_half_a_minute_while_running(company):
    await company.register()
    await company.stack.broker.stop()
    up_again = asyncio.get_running_loop().time() + AWAY
    await company.register()
    said = await company.says("accounts-relay", '"ready":false')
    assert '"database":"ok"' in said
    while asyncio.get_running_loop().time() < up_again:
        await company.register(1)
        await asyncio.sleep(1)
    await company.stack.broker.resume()
    await company.done()
    for name in ROLES:
        await company.fleet.ready(name)


async def test_postgresql_restarted_while_events_flow(company):
    registering = asyncio.create_task(company.register(20))
    await asyncio.wait([registering], timeout=0.2)
    await company.stack.postgres.stop()
    failed = await asyncio.gather(registering, return_exceptions=True)
    assert isinstance(failed[0], AssertionError), "requests are refused while the database is away"
    assert "503" in str(failed[0])
    assert "database" in await company.says("accounts-api", '"ready":false')
    await company.stack.postgres.resume()
    for name in ROLES:
        await company.fleet.ready(name)
    await company.register()
    await company.done()


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


@pytest.mark.parametrize("answer", [None, "421 4.3.2 closing", "451 4.3.0 not now"])
async def test_the_mail_server_away_or_refusing(company, answer):
    mailbox = company.stack.mailbox
    if answer is None:
        await mailbox.stop()
    else:
        mailbox.refuse(answer)
    await company.register()
    if answer != "451 4.3.0 not now":  # that is about one mail, not about the server
        await company.says("mailer", "the mail server")
    if answer is None:
        await mailbox.resume()
    mailbox.refuse(None)
    await company.done()


async def test_everything_stops_within_its_time(company):
    await company.fleet.stop(*ROLES)
    assert {name: company.fleet.processes[name].returncode for name in ROLES} == dict.fromkeys(ROLES, 0)
