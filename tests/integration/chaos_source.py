"""Events that flow at a steady rate, and what each of them is told to come to."""

import asyncio
import json
import random
import time
from collections import Counter
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from tests.integration.chaos_rig import KINDS

KEYS = 40
RATE = 150  # events a second, over all topics
BEAT = 0.1  # seconds between two sends
PAUSE = 0.02  # seconds a handler takes at most


def tick(kind, key, n, *, pause=0.0, failures=0):
    """Return body and headers of an event; see chaos_consumer.py."""
    body = json.dumps({"key": key, "n": n, "pause": pause, "failures": failures}).encode()
    known = {"specversion": "1.0", "id": f"{kind}-{key}-{n}", "source": "/chaos", "type": f"chaos.{kind}.v1"}
    return body, [(f"ce_{name}", value.encode()) for name, value in known.items()]


class Source:
    """Writes events: every event has its own id, every key counts."""

    def __init__(self, crew, seed):
        self._crew, self._dice = crew, random.Random(seed)
        self._next = Counter()
        self.accepted = 0

    @asynccontextmanager
    async def flowing(self):
        """Write while the block runs; an outage of the broker is waited for, and nothing piles up meanwhile."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._flow(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    async def _flow(self, stop):
        producer = AIOKafkaProducer(bootstrap_servers=self._crew.broker.bootstrap, enable_idempotence=True)
        async with producer:
            while not stop.is_set():
                due = time.monotonic() + BEAT
                sent = [await self._send(producer) for _ in range(int(RATE * BEAT))]
                await asyncio.gather(*sent)
                self.accepted += len(sent)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _send(self, producer):
        kind, key = self._dice.choice(KINDS), f"k{self._dice.randrange(KEYS)}"
        self._next[kind, key] += 1
        pause = round(self._dice.uniform(0, PAUSE), 4)
        body, headers = tick(kind, key, self._next[kind, key], pause=pause, failures=self._fate(kind))
        return producer.send(self._crew.topics[kind], body, key=key.encode(), headers=headers)

    def _fate(self, kind):
        """Return how often an event fails: of those with a thread one of ten once or twice, one of thirty for ever."""
        dice = self._dice.random()
        if kind != "threaded" or dice > 0.13:
            return 0
        return -1 if dice < 0.03 else self._dice.choice((1, 2))
