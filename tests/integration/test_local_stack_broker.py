"""The broker of a laptop behaves like the one in the cluster, and can be broken on purpose."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import InvalidPartitionsError

from workbench.archive import KAFKA_CLASSES, PLATFORM_CLASSES
from workbench.broker import Broker
from workbench.cache import find, publish
from workbench.deadline import NotReadyError
from workbench.home import Home
from workbench.jars import KAFKA
from workbench.topics import ensure_topics

LINUX = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")


async def produce(broker: Broker, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def consume(broker: Broker, topic: str, count: int, group: str | None = None) -> list[bytes]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=broker.bootstrap, group_id=group, auto_offset_reset="earliest")
    async with consumer, asyncio.timeout(30):
        return [(await consumer.getone()).value for _ in range(count)]


@pytest.fixture(scope="module")
async def own(home: Home) -> Broker:
    """A broker to break: the one of the session serves other tests."""
    return await Broker.start(home, name="kafka-own")


async def test_records_and_offsets_survive_a_restart(own: Broker, topic_name):
    topic = topic_name("kept")
    await ensure_topics(own.bootstrap, {topic: 1})
    await produce(own, topic, b"a", b"b")
    assert await consume(own, topic, 1, group=topic) == [b"a"]
    await own.restart()
    assert await consume(own, topic, 2) == [b"a", b"b"]
    await produce(own, topic, b"c")


async def test_acknowledged_records_survive_a_kill(own: Broker, topic_name):
    topic = topic_name("killed")
    await ensure_topics(own.bootstrap, {topic: 1})
    await produce(own, topic, *(b"%d" % number for number in range(100)))
    await own.kill()
    await own.resume()
    assert await consume(own, topic, 100) == [b"%d" % number for number in range(100)]


async def test_a_frozen_broker_answers_when_thawed(own: Broker, topic_name):
    topic = topic_name("frozen")
    await ensure_topics(own.bootstrap, {topic: 1})
    own.freeze()
    sending = asyncio.ensure_future(produce(own, topic, b"late"))
    done, _ = await asyncio.wait([sending], timeout=1)
    own.thaw()
    await sending
    assert not done
    assert await consume(own, topic, 1) == [b"late"]


async def test_topics_are_made_once_and_only_on_request(broker: Broker, topic_name):
    topic = topic_name("made")
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, request_timeout_ms=1000) as producer:
        with pytest.raises(Exception, match=r"Topic not found|UnknownTopic|Timeout"):
            await producer.send_and_wait(topic, b"nowhere")
    for _ in range(2):
        await ensure_topics(broker.bootstrap, {topic: 3}, {"retention.ms": "60000"})
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    [description] = await admin.describe_topics([topic])
    await admin.close()
    assert len(description["partitions"]) == 3


async def test_a_refused_topic_is_named(broker: Broker, topic_name):
    topic = topic_name("impossible")
    with pytest.raises(InvalidPartitionsError, match=topic):
        await ensure_topics(broker.bootstrap, {topic: 0})


async def test_a_broker_that_cannot_start_says_why(home: Home, broker: Broker):
    port = int(broker.bootstrap.rpartition(":")[2])
    with pytest.raises(NotReadyError, match=r"ended with status 1(.|\n)*Address already in use"):
        await Broker.start(home, name="kafka-refused", port=port)


@LINUX
async def test_a_broker_starts_from_the_class_archive_its_predecessor_recorded(
    home: Home, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with_jars_only(tmp_path, monkeypatch)
    first = await Broker.start(home, name="kafka-recording")
    await first.stop()
    second = await Broker.start(home, name="kafka-archived")
    assert archives(second) == {
        tmp_path / "evenkeel" / name / "classes.jsa" for name in (KAFKA_CLASSES, PLATFORM_CLASSES)
    }
    await second.stop()


@LINUX
async def test_a_broker_starts_without_an_archive_that_does_not_fit(
    home: Home, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with_jars_only(tmp_path, monkeypatch)
    for name in (KAFKA_CLASSES, PLATFORM_CLASSES):
        (tmp_path / name).mkdir()
        (tmp_path / name / "classes.jsa").write_bytes(b"from another machine")
        publish(home, tmp_path / name, name)
    unarchived = await Broker.start(home, name="kafka-unarchived")
    assert archives(unarchived) == set()
    await unarchived.stop()


def with_jars_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch to a cache in `root` that has Kafka's jars and nothing else."""
    jars = find(f"kafka-{KAFKA}-jars")
    assert jars, "the broker of the session put them there"
    (root / "evenkeel").mkdir()
    (root / "evenkeel" / jars.name).symlink_to(jars)
    monkeypatch.setenv("XDG_CACHE_HOME", str(root))


def archives(broker: Broker) -> set[Path]:
    """Return the class archives the JVM has mapped into its memory."""
    maps = Path(f"/proc/{broker.process.pid}/maps").read_text().splitlines()
    return {Path(line.split()[-1]) for line in maps if line.endswith(".jsa")}
