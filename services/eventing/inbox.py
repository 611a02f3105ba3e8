"""The inbox: one row per group and event, written in the transaction of the effect, makes the effect happen once."""

import uuid
from datetime import UTC, date, datetime

from eventing.database import Database, Transaction
from eventing.event import Event
from eventing.sql import load

_SQL = load("eventing", "inbox")

AHEAD = 3  # days for which partitions stand ready


async def claim(tx: Transaction, group: str, event: Event) -> bool:
    """Note that `group` handles `event` in this transaction; False when it already has.

    A second transaction for the same event waits for the first: also between a process that lost its
    partitions without knowing and the one that got them.
    """
    return await tx.fetchval(_SQL["claim"], day(event), group, event.id) is True


async def claim_many(tx: Transaction, group: str, events: list[Event]) -> set[str]:
    """Note that `group` handles these events in this transaction; returns the ids of those it had not."""
    rows = await tx.fetch(_SQL["claim_many"], group, [day(event) for event in events], [event.id for event in events])
    return {row["event_id"] for row in rows}


def day(event: Event) -> date:
    """Return the event's own day in UTC: of its UUIDv7, else of its time."""
    return (born(event.id) or event.time.astimezone(UTC)).date()


def born(event_id: str) -> datetime | None:
    """Return when an id of version 7 was made, None for any other (RFC 9562, section 5.7)."""
    try:
        parsed = uuid.UUID(event_id)
    except ValueError:
        return None
    return datetime.fromtimestamp((parsed.int >> 80) / 1000, UTC) if parsed.version == 7 else None


async def maintain(database: Database, retention_days: int) -> None:
    """Create the partitions of the coming days and drop those past retention; one process at a time does it."""
    await database.execute("SELECT eventing.inbox_maintain($1, $2)", retention_days, AHEAD)
