"""A sync handler that never returns: its process ends all the same, and its event comes again."""

import asyncio
import sys

from tests.integration.rig import until

from eventing.producer import Producer
from eventing.settings import Settings
from workbench.topics import ensure_topics

MODULE = """
import pathlib, time
from eventing import Consumer, Contract

consumer = Consumer("{topic}-group")

class Stuck(Contract, type="test.stuck.v1", topic="{topic}", key="key"):
    key: str
    action: str = "stuck"

@consumer.on(Stuck)
def handle(stuck: Stuck) -> None:
    pathlib.Path("began").touch()
    time.sleep(3600)
"""
DRAIN = 1.0  # seconds


async def test_a_process_with_a_thread_that_never_ends_is_gone_within_its_drain(broker, home, topic_name, tmp_path):
    topic = topic_name("stuck")
    (tmp_path / "stuck.py").write_text(MODULE.format(topic=topic))
    names = [topic, f"{topic}.{topic}-group.redrive", f"{topic}.{topic}-group.dlq"]
    await ensure_topics(broker.bootstrap, dict.fromkeys(names, 1))
    async with Producer(Settings(kafka_bootstrap=broker.bootstrap)) as producer:
        await producer.send(topic, b'{"key": "k", "action": "stuck"}', key=b"k", headers=[])
    settings = {
        "EVENTING_KAFKA_BOOTSTRAP": broker.bootstrap,
        "EVENTING_CONSUMER_DRAIN_TIMEOUT": str(DRAIN),
        "EVENTING_HTTP_PORT": "0",
        "PYTHONPATH": str(tmp_path),
    }
    command = [sys.executable, "-m", "eventing.cli", "consume", "stuck"]
    process = await home.spawn("stuck", command, env=settings, cwd=tmp_path)
    await until((tmp_path / "began").exists, 30)
    started = asyncio.get_running_loop().time()
    assert await process.stop(grace=20) == 0
    assert asyncio.get_running_loop().time() - started < DRAIN + 5
    assert "threads_abandoned" in process.log.read_text()
    (tmp_path / "began").unlink()
    again = await home.spawn("stuck-again", command, env=settings, cwd=tmp_path)
    await until((tmp_path / "began").exists, 30)
    await again.stop(grace=20)
