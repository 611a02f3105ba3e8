"""Others' records are understood, and ours by others: kafka-python and the cloudevents SDK."""

import asyncio
import json
import sys
import uuid
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent

from contracts.users import TOPIC, UserRegistered
from eventing import Consumer, Database, Event, outbox
from eventing.dead_letter import redrive_topic_of
from eventing.migrate import migrate
from eventing.producer import Producer
from eventing.provide import provide
from eventing.relay import Relay
from eventing.runtime import Runtime
from eventing.settings import Settings
from workbench.records import read_topic
from workbench.topics import ensure_topics

THEIRS = {"id": "t-1", "type": UserRegistered.event_type, "source": "/crm", "partitionkey": "u9", "subject": "u9"}


@pytest.fixture
async def seen(broker):
    """Consume `user-events` with a group of its own; returns what it sees and a producer."""
    group, found = f"watch-{uuid.uuid4().hex[:8]}", []
    settings = Settings(kafka_bootstrap=broker.bootstrap)
    await ensure_topics(broker.bootstrap, {TOPIC: 3, redrive_topic_of(TOPIC, group): 3})
    consumer = Consumer(group)

    @consumer.on(UserRegistered)
    async def watch(user: UserRegistered, event: Event) -> None:
        found.append((user, event))

    stop = asyncio.Event()
    async with Producer(settings) as producer, provide(consumer, settings) as provided:
        running = asyncio.create_task(Runtime(consumer, settings, producer, provided).run(stop))

        async def first(condition):
            async with asyncio.timeout(20):
                while not (hits := [pair for pair in found if condition(*pair)]):
                    await asyncio.sleep(0.02)
            return hits[0]

        yield producer, first
        stop.set()
        await running


@pytest.mark.parametrize("write", [kafka.to_binary_event, kafka.to_structured_event], ids=["binary", "structured"])
async def test_a_record_of_the_cloudevents_sdk_is_understood(seen, write):
    producer, first = seen
    attributes = THEIRS | {"id": uuid.uuid4().hex, "time": datetime(2026, 11, 24, tzinfo=UTC), "specversion": "1.0"}
    data = {"userId": 9, "action": "registered", "email": "nine@example.com"}
    message = write(CloudEvent(attributes=attributes | {"datacontenttype": "application/json"}, data=data))
    key = message.key.encode() if isinstance(message.key, str) else message.key
    await producer.send(TOPIC, message.value, key=key, headers=list(message.headers.items()))
    user, event = await first(lambda _, event: event.id == attributes["id"])
    assert (user.user_id, user.email) == ("9", "nine@example.com")
    assert (event.type, event.source, event.key) == (THEIRS["type"], "/crm", "u9")
    assert event.time == attributes["time"]


async def test_a_record_of_kafka_python_is_understood(seen, broker):
    _, first = seen
    argv = [sys.executable, "-W", "ignore", "-m", "workbench.foreign", "produce", broker.bootstrap]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    place = json.loads((await process.communicate())[0])
    user, event = await first(lambda user, event: (event.partition, event.offset) == tuple(place.values()))
    assert (user.user_id, user.email, user.name) == ("123", None, None)
    assert (event.id, event.version) == (f"{TOPIC}-{place['partition']}-{place['offset']}", None)


async def test_the_cloudevents_sdk_reads_our_records_as_the_same_event(database, broker):
    url = await database()
    await migrate(url)
    await ensure_topics(broker.bootstrap, {TOPIC: 3})
    settings = Settings(kafka_bootstrap=broker.bootstrap)
    async with Database(url) as db, Producer(settings) as producer:
        async with db.transaction() as tx:
            user = UserRegistered(user_id=7, name="Ada", email="ada@example.com")
            added = await outbox.add(tx, user, version=3, correlation_id="story-1")
        relay = Relay(db, producer, lease=5, batch=100, poll_max=1)
        await relay.leases.renew()
        assert await relay.step() == 1
    record = next(
        r for r in await read_topic(broker.bootstrap, TOPIC) if dict(r.headers).get("ce_id") == str(added.id).encode()
    )
    theirs = kafka.from_kafka_event(kafka.KafkaMessage(dict(record.headers), record.key, record.value))
    assert theirs.get_id() == str(added.id)
    assert (theirs.get_type(), theirs.get_subject()) == (UserRegistered.event_type, "7")
    assert theirs.get_data() == {"userId": "7", "action": "registered", "name": "Ada", "email": "ada@example.com"}
    assert theirs.get_time() == Event.read(record).time
    assert theirs.get_source() == Event.read(record).source
    extensions = {name: theirs.get_extension(name) for name in ("partitionkey", "aggregateversion", "correlationid")}
    assert extensions == {"partitionkey": "7", "aggregateversion": "3", "correlationid": "story-1"}
