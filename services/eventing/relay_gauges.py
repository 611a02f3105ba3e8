"""The outbox's gauges: what waits, how long, and what stands in its way."""

import asyncio

import asyncpg

from eventing.database import Database
from eventing.errors import Unavailable
from eventing.metrics import (
    OUTBOX_BLOCKED,
    OUTBOX_DEAD,
    OUTBOX_OLDEST,
    OUTBOX_PENDING,
    OUTBOX_TRANSACTION,
    OUTBOX_UNOWNED,
)
from eventing.sql import load

_SQL = load("eventing", "outbox")

EVERY = 5.0  # seconds between looks


async def watch(database: Database) -> None:
    """Set the gauges regularly until cancelled; an outage leaves the last values."""
    while True:
        try:
            row = await database.fetchrow(_SQL["state"])
        except (Unavailable, TimeoutError, asyncpg.PostgresError):
            row = None
        if row is not None:
            OUTBOX_PENDING.set(row["pending"])
            OUTBOX_OLDEST.set(row["oldest"])
            OUTBOX_BLOCKED.set(row["blocked"])
            OUTBOX_UNOWNED.set(row["unowned"])
            OUTBOX_TRANSACTION.set(row["oldest_transaction"])
            OUTBOX_DEAD.set(row["dead"])
        await asyncio.sleep(EVERY)
