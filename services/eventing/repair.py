"""Blocked keys: what is behind them, sent in order or skipped, and who did it.

Rows leave `outbox_blocked` from the first one on, and only then is the key unblocked, under its lock: a relay that
moves rows of the key holds the same lock, so none is left behind. Nothing is put back into the outbox.
"""

import getpass
import socket
import uuid
from dataclasses import dataclass

import asyncpg
import structlog

from eventing.database import Database
from eventing.errors import EventingError, SendFailed
from eventing.outbox_row import Key
from eventing.producer import Producer
from eventing.sender import Sender
from eventing.sql import load

_SQL = load("eventing", "outbox_blocked")

AT_ONCE = 100  # rows read behind a key

log = structlog.get_logger()


@dataclass(frozen=True)
class Wanted:
    """Which blocked keys are meant; None means any."""

    aggregate: str | None = None
    key: str | None = None
    topic: str | None = None
    event_id: uuid.UUID | None = None


@dataclass(frozen=True)
class Repaired:
    """What a repair of one key came to; `refused` says why it is blocked still, None when it is free."""

    key: Key
    sent: int
    refused: str | None


async def blocked(database: Database, wanted: Wanted, limit: int | None = None) -> list[asyncpg.Record]:
    """Return blocked keys, those blocked first in front."""
    return await database.fetch(_SQL["keys"], wanted.aggregate, wanted.key, wanted.topic, limit, wanted.event_id)


async def repair(database: Database, producer: Producer, key: Key, why: str) -> Repaired:
    """Send what is behind a key, in order, and unblock it; stops at a row that is refused again.

    Raises:
        SendFailed: the broker did not answer; what was acknowledged is noted, the rest still waits.
    """
    sender, sent = Sender(producer), 0
    while True:
        rows = await database.fetch(_SQL["rows"], *key, AT_ONCE)
        if not rows and await _free(database, key):
            log.info("outbox_key_repaired", aggregate=key[0], sent=sent, who=who(), why=why)
            return Repaired(key, sent, None)
        found = await sender.send(rows)
        acked = found.acknowledged
        if acked:
            await database.execute(
                _SQL["repaired"], [r["bucket"] for r in acked], [r["seq"] for r in acked], who(), why
            )
        sent += len(acked)
        if found.failure is not None:
            raise SendFailed(f"{found.failure}; sent {sent} events of {key[1]}, the others wait; run it again")
        for _, reason in found.refused:
            await database.execute(_SQL["still_refused"], *key, reason)
            return Repaired(key, sent, reason)


async def skip(database: Database, key: Key, event_id: str, why: str) -> bool:
    """Give up the first event behind a key; True when nothing is left and the key is free.

    Raises:
        EventingError: it is not the first event behind this key.
    """
    gone = await database.fetch(_SQL["skip"], *key, event_id, who(), why)
    if not gone:
        raise EventingError(f"{event_id} is not the first event behind {key[1]}; `eventing outbox list` names that one")
    log.warning("outbox_event_skipped", aggregate=key[0], event_id=event_id, who=who(), why=why)
    return await _free(database, key)


async def _free(database: Database, key: Key) -> bool:
    """Unblock a key with nothing behind it; True also when somebody else has."""
    async with database.transaction() as tx:
        if not await tx.fetchval(_SQL["lock"], *key):
            return True
        return await tx.fetchval(_SQL["free"], *key) is True


def who() -> str:
    """Return who does this, for the audit."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
