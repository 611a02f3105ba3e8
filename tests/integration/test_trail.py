"""One event id, and five minutes: `eventing trace` and `eventing why` on real parts."""

import asyncio
import os
import re
import sys
import uuid

import pytest
import uuid_utils.compat
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from contracts.users import UserRegistered
from eventing import outbox
from eventing.database import Database
from eventing.dead_letter import topic_of
from eventing.migrate import migrate
from workbench.topics import ensure_topics

TRACE = "0af7651916cd43dd8448eb211c80319c"
HOP = f"00-{TRACE}-b7ad6b7169203331-01"


class Case:
    """An event on a topic of its own, what was made of it, and the command."""

    def __init__(self, bootstrap, url, topic):
        self.bootstrap, self.url, self.topic = bootstrap, url, topic
        self.dlq = topic_of(topic, "mailer")
        self.id = str(uuid_utils.compat.uuid7())

    async def send(self, topic, **more):
        known = {"ce_id": self.id, "ce_type": "user.v1", "ce_source": "/accounts", "ce_traceparent": HOP} | more
        headers = [(name, value.encode()) for name, value in known.items()]
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap) as producer:
            return await producer.send_and_wait(topic, b'{"secret": 1}', key=b"k", headers=headers, partition=0)

    async def give_up(self):
        why = {"x-group": "mailer", "x-disposition": "exhausted", "x-attempt": "5", "x-error-type": "TimeoutError"}
        letter = {"x-dlq-id": "letter-1", "x-error-message": "no answer", "traceparent": HOP}
        place = {"x-origin-topic": self.topic, "x-origin-partition": "0", "x-origin-offset": "0"}
        await self.send(self.dlq, **why, **letter, **place)

    async def commit(self, group, offset):
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False)
        await consumer.start()
        consumer.assign([TopicPartition(self.topic, 0)])
        await consumer.commit({TopicPartition(self.topic, 0): offset})
        await consumer.stop()

    async def eventing(self, *words, database=True):
        environment = os.environ | {"EVENTING_KAFKA_BOOTSTRAP": self.bootstrap}
        if database:
            environment["EVENTING_DATABASE_URL"] = self.url
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "eventing.cli", *words,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment,
        )  # fmt: skip
        said, _ = await process.communicate()
        return process.returncode, said.decode()


@pytest.fixture
async def case(broker, database, topic_name):
    url = await database()
    await migrate(url)
    case = Case(broker.bootstrap, url, topic_name("users"))
    await ensure_topics(broker.bootstrap, {case.topic: 1, case.dlq: 1})
    return case


async def test_a_story_is_told_in_order_with_the_trace_of_each_hop(case):
    await case.send(case.topic, traceparent=HOP, ce_correlationid="story-1")
    await case.give_up()
    code, said = await case.eventing("trace", case.id)
    assert code == 0, said
    ways = re.findall(r"^\d\d:\d\d:\d\d\.\d+  (published|dead letter) +(\S+)  trace (\w+)", said, re.MULTILINE)
    assert ways == [("published", f"{case.topic}/0/0", TRACE), ("dead letter", f"{case.dlq}/0/0", TRACE)]
    assert "story (correlation id) story-1" in said
    assert "secret" not in said


async def test_why_says_who_has_it_who_gave_it_up_and_what_to_type(case):
    await case.send(case.topic)
    await case.give_up()
    await case.commit("mailer", 1)
    await case.commit("analytics", 0)
    code, said = await case.eventing("why", case.id)
    assert code == 0, said
    assert "mailer: has gone past it" in said
    assert "analytics: not yet, 1 records to go" in said
    assert "mailer: gave it up (exhausted) after 5 attempts: TimeoutError: no answer" in said
    command = re.search(r"`eventing (dlq redrive .*)`", said)[1].split()
    code, told = await case.eventing(*command, "--dry-run")
    assert code == 0, told
    assert "would redrive 1 of 1" in told


async def test_an_event_with_an_inbox_row_was_handled(case):
    await case.send(case.topic)
    await case.commit("mailer", 1)
    async with Database(case.url) as db:
        await db.execute("SELECT eventing.inbox_maintain(14, 2)")
        made = "to_timestamp($2::float8) AT TIME ZONE 'UTC'"
        seconds = (uuid.UUID(case.id).int >> 80) / 1000
        await db.execute(
            f"INSERT INTO eventing.inbox (day, grp, event_id) VALUES (({made})::date, 'mailer', $1)", case.id, seconds
        )
    assert "mailer: handled, its inbox says so" in (await case.eventing("why", case.id))[1]


async def test_an_event_that_has_not_left_is_found_in_the_outbox(case):
    async with Database(case.url) as db:
        async with db.transaction() as tx:
            added = await outbox.add(tx, UserRegistered(user_id="1", email="a@example.com"))
        code, said = await case.eventing("why", str(added.id))
        assert (code, "it is in the outbox since" in said) == (0, True), said
        await db.execute(
            "INSERT INTO eventing.outbox_blocked OVERRIDING SYSTEM VALUE SELECT * FROM eventing.outbox WHERE id = $1",
            added.id,
        )
        await db.execute("DELETE FROM eventing.outbox WHERE id = $1", added.id)
        await db.execute(
            "INSERT INTO eventing.outbox_blocked_key (aggregatetype, aggregateid, bucket, reason) "
            "SELECT aggregatetype, aggregateid, bucket, 'too large' FROM eventing.outbox_blocked WHERE id = $1",
            added.id,
        )
        said = (await case.eventing("why", str(added.id)))[1]
    assert "its key is blocked: too large" in said
    assert "`eventing outbox repair --key 1 --why" in said


async def test_a_record_without_an_id_is_found_by_its_place(case):
    async with AIOKafkaProducer(bootstrap_servers=case.bootstrap) as producer:
        await producer.send_and_wait(case.topic, b'{"action": "registered"}', partition=0)
    code, said = await case.eventing("trace", f"{case.topic}-0-0", "--topic", case.topic)
    assert (code, f"published    {case.topic}/0/0" in said) == (0, True), said


@pytest.mark.parametrize(("with_database", "words"), [(True, "and in no outbox"), (False, "set EVENTING_DATABASE_URL")])
async def test_an_event_that_is_nowhere_is_said_to_be(case, with_database, words):
    code, said = await case.eventing("why", case.id, "--topic", case.topic, database=with_database)
    assert code == 2
    assert words in said
    assert "Traceback" not in said
