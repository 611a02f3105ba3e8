"""What the members of a chaos run consume: `eventing consume chaos_consumer`, with this folder on PYTHONPATH.

Three topics with the same keys: `plain` has handlers without a transaction, `owned` handlers whose effect is a row in
our database, and `tried` has handlers that block a thread. An event fails as often as its body says, for ever when it
says -1.
"""

import asyncio
import os
import time
from contextlib import contextmanager

from journal import Journal
from tenacity import wait_fixed

from eventing import Consumer, Contract, Event, Permanent, Retries, Temporary, Transaction

WHO, GROUP = os.environ["CHAOS_MEMBER"], os.environ["CHAOS_GROUP"]

journal = Journal(os.environ["CHAOS_JOURNAL"])
consumer = Consumer(GROUP, retries=Retries(5, wait_fixed(float(os.environ.get("CHAOS_REST", "0.05")))))


class Plain(Contract, type="chaos.plain.v1", topic=f"{GROUP}.plain", key="key"):
    """A tick of a key."""

    key: str
    n: int
    pause: float = 0.0  # seconds the handler takes
    failures: int = 0  # attempts that fail; -1: all


class Owned(Plain, type="chaos.owned.v1", topic=f"{GROUP}.owned", key="key"):
    """A tick with an effect in the database."""


class Threaded(Plain, type="chaos.threaded.v1", topic=f"{GROUP}.threaded", key="key"):
    """A tick whose handler blocks its thread."""


@contextmanager
def noted(tick, event):
    """Note the beginning and the end of a handling, which fails when it was told to."""
    place = (event.topic, event.partition, event.offset)
    journal.note(WHO, "began", place, tick.key)
    try:
        yield
        if tick.failures < 0:
            raise Permanent("told to fail for ever")
        if event.attempt <= tick.failures:
            raise Temporary("told to fail for now")
    except BaseException:
        journal.note(WHO, "failed", place, tick.key)
        raise
    journal.note(WHO, "ended", place, tick.key)


@consumer.on(Plain)
async def plain(tick: Plain, event: Event) -> None:
    with noted(tick, event):
        await asyncio.sleep(tick.pause)


@consumer.on(Owned)
async def owned(tick: Owned, event: Event, tx: Transaction) -> None:
    with noted(tick, event):
        await tx.execute("INSERT INTO effects (topic, event_id) VALUES ($1, $2)", event.topic, event.id)
        await asyncio.sleep(tick.pause)


@consumer.on(Threaded)
def threaded(tick: Threaded, event: Event) -> None:
    with noted(tick, event):
        time.sleep(tick.pause)
