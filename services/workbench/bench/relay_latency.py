"""How long an event takes from just before its commit to the start of its handler, at a steady rate."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from functools import partial
from statistics import quantiles

from eventing import Database, outbox
from eventing.dead_letter import redrive_topic_of, topic_of
from workbench.bench.job import VARIABLE, Job
from workbench.bench.relay_yard import PARTITIONS, Yard
from workbench.bench.tick import Tick, tick
from workbench.bench.watch import done, ready, wrote
from workbench.ports import free_port
from workbench.process import Process
from workbench.topics import ensure_topics

RATE = 500  # events a second
KEYS = 1_000
WARM_UP = 2.0  # seconds that do not count: the first event opens every connection


@dataclass(frozen=True)
class Latency:
    """Milliseconds, and of how many events."""

    p50: float
    p99: float
    events: int


async def measure_latency(yard: Yard, *, seconds: float) -> Latency:
    """Write at a steady rate through one relay to one of our consumers, which notes when each handler starts."""
    topic, group = await yard.topic(), "bench-latency"
    await ensure_topics(
        yard.broker.bootstrap, dict.fromkeys((topic_of(topic, group), redrive_topic_of(topic, group)), PARTITIONS)
    )
    events = int(RATE * (WARM_UP + seconds))
    job = Job(
        bootstrap=yard.broker.bootstrap, topic=topic, group=group, records=events, keys=KEYS, pause=(0.0, 0.0),
        result=yard.home.path / "latency.json",
    )  # fmt: skip
    async with yard.relays(1):
        consumer = await _consumer(yard, job)
        sent = await _write(yard.url, topic, events)
        await done(consumer, partial(wrote, job.result))
        await consumer.stop()
    started = json.loads(job.result.read_text())
    waits = [(started[number] - sent[number]) * 1000 for number in range(int(RATE * WARM_UP), events)]
    cuts = quantiles(waits, n=100)
    return Latency(round(cuts[49], 1), round(cuts[98], 1), len(waits))


async def _consumer(yard: Yard, job: Job) -> Process:
    port = free_port()
    known = {
        VARIABLE: job.model_dump_json(),
        "EVENTING_SERVICE": "bench",
        "EVENTING_KAFKA_BOOTSTRAP": job.bootstrap,
        "EVENTING_HTTP_PORT": str(port),
        "EVENTING_LOG_FORMAT": "json",
    }
    argv = (sys.executable, "-m", "eventing.cli", "consume", "workbench.bench.evenkeel_clock")
    process = await yard.home.spawn("latency", argv, env=known)
    await done(process, partial(ready, port))
    return process


async def _write(url: str, topic: str, events: int) -> list[float]:
    """Commit one event after another at the rate, each in a transaction of its own; returns when each began."""
    Tick.event_topic = topic
    sent, began = [0.0] * events, time.monotonic()
    async with Database(url) as database, asyncio.TaskGroup() as writing:
        for number in range(events):
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
            writing.create_task(_one(database, number, sent))
    return sent


async def _one(database: Database, number: int, sent: list[float]) -> None:
    async with database.transaction() as tx:
        await outbox.add(tx, tick(number, KEYS))
        sent[number] = time.time()  # just before the commit
