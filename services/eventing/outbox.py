"""HTTP → outbox: the event is a row of the caller's transaction, or it does not exist."""

import asyncio
import uuid
import weakref
import zlib
from dataclasses import dataclass
from datetime import datetime

import uuid_utils.compat

from eventing import tracing
from eventing.contract import MAX_BODY, Contract
from eventing.database import Database, Transaction
from eventing.errors import BadRecord, InvalidContract, StaleVersion
from eventing.metrics import OUTBOX_INSERTED
from eventing.settings import settings
from eventing.sql import load

BUCKETS = 256  # fixed: rows carry their bucket, so another number needs a migration

_SQL = load("eventing", "outbox")


@dataclass(frozen=True, slots=True)
class Added:
    """What was written: the event's id and the aggregate's version."""

    id: uuid.UUID
    version: int


def bucket(key: str) -> int:
    """Return the bucket of a key: the unit relays lease."""
    return zlib.crc32(key.encode()) % BUCKETS


async def add(
    tx: Transaction,
    event: Contract,
    *,
    version: int | None = None,
    correlation_id: str | None = None,
    expires: datetime | None = None,
) -> Added:
    """Write an event into the transaction that changes the state it tells of.

    Args:
        tx: the open transaction; the event is published if and only if it commits.
        event: the body; checked again here, since a model can be built without validation.
        version: the aggregate's version after this change, one more than before; counted for you when None.
        correlation_id: joins this event to a story; inherited inside a handler, else the event's own id.
        expires: after this moment external effects of the event are suppressed.

    Raises:
        InvalidContract: the body breaks its contract (the field is named) or is larger than 64 KiB.
        StaleVersion: the aggregate already has an event of this or a later version.
    """
    body = _checked(event)
    event_id = uuid_utils.compat.uuid7()
    story, cause = tracing.story()
    with tracing.created(event.event_topic, str(event_id), event.event_type) as context:
        written = await tx.fetchval(
            _SQL["add"],
            event_id, event.event_aggregate, event.event_key, version, bucket(event.event_key),
            event.event_topic, event.event_type,
            f"/{settings().service}", body, None, correlation_id or story or str(event_id), cause, expires,
            context.get("traceparent"), context.get("tracestate"),
        )  # fmt: skip
    if written is None:
        raise StaleVersion(
            f"{event.event_aggregate} {event.event_key} already has an event of version {version} or later"
        )
    OUTBOX_INSERTED.labels(event.event_topic, event.event_type).inc()
    tx.after_commit("outbox", lambda: hint(tx.database))
    return Added(event_id, written)


def _checked(event: Contract) -> bytes:
    body = event.encode()
    try:
        type(event).decode(body)
    except BadRecord as error:
        raise InvalidContract(str(error)) from None
    if len(body) > MAX_BODY:
        largest = max(event.model_dump(), key=lambda name: len(str(getattr(event, name))))
        raise InvalidContract(
            f"{event.event_type}: {len(body)} bytes, at most {MAX_BODY} travel; the largest field is {largest}"
        )
    return body


_hinted: weakref.WeakSet[Database] = weakref.WeakSet()


def hint(database: Database) -> None:
    """Tell the relays after a commit that there is work; polling finds it anyway, only later.

    One hint is under way per database at a time, and it waits two milliseconds for more commits to share it.
    """
    if database in _hinted:
        return
    _hinted.add(database)

    async def wake() -> None:
        await asyncio.sleep(0.002)
        _hinted.discard(database)
        await database.execute(_SQL["hint"])

    database.later(wake)
