"""kill -9 each process in turn while events flow, then compare what was accepted with what was done."""

import asyncio
import itertools
import secrets

import httpx
import pytest

from contracts.users import TOPIC, UserRegistered, UserUpdated
from eventing import Database, outbox
from eventing.dead_letter import topic_of
from workbench.fleet import GROUPS, Fleet
from workbench.home import Home
from workbench.records import read_topic
from workbench.stack import Stack

USERS, EVENTS = 500, 5_000
VICTIMS = {"accounts-relay": 4, "mailer": 2, "analytics": 3, "profile-cache": 1, "accounts-api": 1}  # and how often
QUICK = {"MAILER_SMTP_TIMEOUT": "2", "EVENTING_CONSUMER_SESSION_TIMEOUT": "2", "EVENTING_RELAY_LEASE": "3"}


class Accepted:
    """What was committed: event ids by user, in the order of the commits."""

    def __init__(self, database):
        self.database = database
        self.by_user = {}
        self.addresses = set()
        self._turns = [asyncio.Lock() for _ in range(USERS)]

    @property
    def ids(self):
        return [event_id for events in self.by_user.values() for event_id in events]

    async def write(self, number):
        """Register user `number` at the first event, change it at the others; one writer per user at a time."""
        user, address = f"user-{number}", f"user-{number}@example.com"
        async with self._turns[number]:
            known = self.by_user.setdefault(user, [])
            kind = UserUpdated if known else UserRegistered
            async with self.database.transaction() as tx:
                added = await outbox.add(tx, kind(user_id=user, name=f"Name {len(known)}", email=address))
            known.append(str(added.id))
            self.addresses.add(address)

    async def register(self, http):
        """Register over HTTP, again and again with the same key until there is an answer."""
        key, address = secrets.token_hex(8), f"{secrets.token_hex(6)}@example.com"
        async with asyncio.timeout(60):
            while True:
                try:
                    answer = await http.post(
                        "/users", json={"name": "Ada", "email": address}, headers={"Idempotency-Key": key}
                    )
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                    continue
                if answer.status_code == 201:
                    break
                assert answer.status_code in (409, 503), answer.text
                await asyncio.sleep(0.05)
        self.by_user[answer.json()["userId"]] = [answer.json()["eventId"]]
        self.addresses.add(address)


@pytest.fixture(scope="module")
async def run(broker):
    """Write 5,000 events in five phases, killing one process during each; `broker` proves that Kafka is to be had."""
    async with Home.open() as home:
        stack = await Stack.start(home, lambda _: None)
        fleet = await Fleet.prepare(home, stack, QUICK)
        await fleet.start(name for name in ("accounts-api", "accounts-relay", "mailer", "analytics", "profile-cache"))
        async with Database(stack.postgres.url("accounts"), pool=12) as database:
            accepted = Accepted(database)
            turns = itertools.cycle(range(USERS))
            for victim in VICTIMS:
                await phase(fleet, accepted, victim, turns)
            await finished(stack, database, accepted)
            yield stack, accepted


async def phase(fleet, accepted, victim, turns):
    before, share = len(accepted.ids), EVENTS // len(VICTIMS)

    async def writer():
        for _ in range(share // 8):
            await accepted.write(next(turns))

    async with httpx.AsyncClient(base_url=fleet.url("accounts-api"), timeout=10) as http, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(writer())
        for _ in range(20):
            group.create_task(accepted.register(http))
        while len(accepted.ids) < before + share // 3:
            await asyncio.sleep(0.01)
        for _ in range(VICTIMS[victim]):
            await fleet.kill(victim)
            await fleet.start([victim])


async def finished(stack, database, accepted):
    """Wait until the outbox is empty and every reader has read everything."""
    async with (
        asyncio.timeout(120),
        Database(stack.postgres.url("analytics")) as analytics,
        Database(stack.postgres.url("mailer")) as mailer,
    ):
        while await database.fetch("SELECT FROM eventing.outbox LIMIT 1"):
            await asyncio.sleep(0.1)
        while (await analytics.fetchrow("SELECT count(*) FROM audit_log"))["count"] < len(accepted.ids):
            await asyncio.sleep(0.1)
        sent = "SELECT count(*) FROM mail_intent WHERE state = 'sent'"
        while (await mailer.fetchrow(sent))["count"] < len(accepted.addresses):
            await asyncio.sleep(0.1)


def header(record, name):
    return dict(record.headers)[name].decode()


async def test_every_accepted_event_is_on_the_topic_in_the_order_of_its_key(run):
    stack, accepted = run
    assert len(accepted.ids) >= EVENTS
    records = await read_topic(stack.broker.bootstrap, TOPIC)
    by_user = {}
    for record in records:  # by partition and offset; a key has one partition
        by_user.setdefault(record.key.decode(), []).append(header(record, "ce_id"))
    assert {user: list(dict.fromkeys(ids)) for user, ids in by_user.items()} == accepted.by_user


async def test_analytics_has_every_event_once_and_in_order(run):
    stack, accepted = run
    async with Database(stack.postgres.url("analytics")) as db:
        rows = await db.fetch("SELECT user_id, event_id FROM audit_log ORDER BY seq")
        totals = await db.fetchrow("SELECT sum(events)::int AS events, sum(joined)::int AS joined FROM daily")
    by_user = {}
    for row in rows:
        by_user.setdefault(row["user_id"], []).append(row["event_id"])
    assert by_user == accepted.by_user
    assert (totals["events"], totals["joined"]) == (len(accepted.ids), len(accepted.by_user))


async def test_every_registration_has_its_mail_and_only_doubts_have_two(run):
    stack, accepted = run
    async with Database(stack.postgres.url("mailer")) as db:
        intents = await db.fetch("SELECT recipient, state, doubts FROM mail_intent")
    assert {row["recipient"] for row in intents} == accepted.addresses
    assert {row["state"] for row in intents} == {"sent"}
    assert {mail.recipients[0].lower() for mail in stack.mailbox.messages} == accepted.addresses
    doubted = {row["recipient"] for row in intents if row["doubts"]}
    twice = set(stack.mailbox.duplicates())
    again = {m.recipients[0].lower() for m in stack.mailbox.messages if str(m.message["Message-ID"]) in twice}
    assert again <= doubted


async def test_nothing_was_given_up(run):
    stack, _ = run
    for group in GROUPS:
        assert await read_topic(stack.broker.bootstrap, topic_of(TOPIC, group)) == []
