"""Ours, noting when each handler starts."""

import json
import time

from eventing import Consumer
from workbench.bench.job import Job
from workbench.bench.tick import Tick

job = Job.read()
Tick.event_topic = job.topic
consumer = Consumer(group=job.group)
started: dict[int, float] = {}


@consumer.on(Tick)
async def handle(tick: Tick) -> None:
    """Note the time, and write all of them when the last one is there."""
    started.setdefault(tick.number, time.time())
    if len(started) == job.records:
        draft = job.result.with_suffix(".draft")
        draft.write_text(json.dumps([started[number] for number in range(job.records)]))
        draft.rename(job.result)
