"""Retry topics: for events without an order, each attempt after the first comes from a topic with a delay of its own.

All records of one retry topic wait equally long, so they are due in the order in which they were written: a reader
that meets one before its time need not look behind it.
"""

from datetime import UTC, datetime

import structlog

from eventing import headers, tracing
from eventing.clock import wall
from eventing.dead_letter import known_origin
from eventing.event import Event, Record
from eventing.lane import Entry
from eventing.outcome import Kind, Outcome
from eventing.port import Sender

SLACK = 60.0  # seconds by which clocks may differ

log = structlog.get_logger()

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))


def topic_of(topic: str, group: str, seconds: int) -> str:
    """Return the retry topic of a subscription for one delay: `orders.billing.retry.10m`."""
    for size, unit in _UNITS:
        if seconds % size == 0:
            return f"{topic}.{group}.retry.{seconds // size}{unit}"
    return f"{topic}.{group}.retry.{seconds}s"


def early(event: Event, record: Record, longest: float) -> Outcome | None:
    """Return the outcome of an event that was read before its time, None for one that may run.

    None waits longer than the `longest` delay (seconds) after it was written, whatever its header says: it holds up
    its whole partition meanwhile.
    """
    if event.not_before is None:
        return None
    latest = record.timestamp / 1000 + longest + SLACK
    if event.not_before > latest:
        log.warning("retry_asks_too_much", topic=record.topic, partition=record.partition, offset=record.offset)
    delay = min(event.not_before, latest) - wall()
    return Outcome(Kind.EARLY, delay=delay) if delay > 0 else None


class RetryTopics:
    """Writes events that are tried again later."""

    def __init__(self, sender: Sender, group: str) -> None:
        self._sender = sender
        self._group = group

    async def write(self, entry: Entry, event: Event, outcome: Outcome) -> None:
        """Write one record to the retry topic of its outcome: key and value untouched, headers kept, ours replaced.

        Raises:
            SendFailed: it is not written, and the record must not be passed over.
        """
        target = topic_of(event.topic, self._group, outcome.tier or 0)
        due = datetime.fromtimestamp(wall() + outcome.delay, UTC)
        first = event.headers.get(headers.FIRST_FAILED_AT) or datetime.fromtimestamp(wall(), UTC).isoformat()
        known = known_origin(entry.record, event) | {
            headers.ATTEMPT: str(event.attempt),
            headers.NOT_BEFORE: due.isoformat(),
            headers.GROUP: self._group,
            headers.FIRST_FAILED_AT: first,
        }
        reason = type(outcome.error).__name__
        with tracing.forwarded(target, event.id, self._group, reason, entry.previous) as hop:
            replaced = {name: value.encode() for name, value in (known | hop).items()}
            await self._sender.send(
                target,
                entry.record.value,
                key=entry.record.key,
                headers=headers.replace(list(entry.record.headers), replaced),
                partition=event.partition,
            )
