"""Lane → handler → effect: one attempt at one record, and what it came to."""

from typing import Any

from eventing import inbox, tracing
from eventing.consumer import STALE, Consumer
from eventing.contract import Contract
from eventing.database import CONTENTION, Database, Transaction
from eventing.errors import BadRecord, Temporary, UnknownType
from eventing.event import Event
from eventing.handler import Handler
from eventing.intake import Unreadable
from eventing.lanes import Entry
from eventing.metrics import SCHEMA_FAILURES
from eventing.outcome import Kind, Outcome, Retries, judge


class Attempts:
    """Runs the handlers of one consumer."""

    def __init__(self, consumer: Consumer, retries: Retries, provided: dict[type, Any]) -> None:
        """Describe the attempts.

        Args:
            consumer: the declared handlers.
            retries: attempts and waits.
            provided: open resources by type; `Database` among them when a handler takes a transaction.
        """
        self._consumer = consumer
        self._retries = retries
        self._provided = provided

    async def run(self, entry: Entry) -> tuple[Event | None, Outcome]:
        """Handle a record once; never raises but for cancellation. The event is None when it cannot be read."""
        event: Event | None = None
        try:
            event = read(entry)
            return event, await self._handle(event, entry)
        except Exception as error:  # a handler may raise anything; the ladder decides
            return event, judge(error, entry.attempt, self._retries)

    async def _handle(self, event: Event, entry: Entry) -> Outcome:
        if not tracing.exporting():
            with tracing.handling(event):
                return await self._run(event)
        record = entry.record
        with tracing.processed(
            event, topic=record.topic, partition=record.partition, offset=record.offset,
            group=self._consumer.group, previous=entry.previous,
        ) as span:  # fmt: skip
            entry.previous = span.get_span_context()
            return await self._run(event)

    async def _run(self, event: Event) -> Outcome:
        handler = self._route(event)
        if handler is None:
            return Outcome(Kind.SKIPPED)
        given = self._provided | {Event: event, **_payload(event, handler)}
        if not handler.transactional:
            return _done(await handler.run(given))
        return await self._once(event, handler, given)

    def _route(self, event: Event) -> Handler | None:
        """Return the handler, None for an event that others care about."""
        contract = event.contract
        if contract is not None and contract in self._consumer.handlers:
            return self._consumer.handlers[contract]
        if self._consumer.catch_all is not None:
            return self._consumer.catch_all
        if contract is None and self._consumer.unknown == "dead_letter":
            raise UnknownType(f"no contract describes type {event.type!r}; deploy one that does, then redrive")
        return None

    async def _once(self, event: Event, handler: Handler, given: dict[type, Any]) -> Outcome:
        """Run the handler in a transaction that begins with the inbox row."""
        database: Database = self._provided[Database]
        try:
            async with database.transaction() as tx:
                if not await inbox.claim(tx, self._consumer.group, event):
                    return Outcome(Kind.DUPLICATE)
                return _done(await handler.run(given | {Transaction: tx}))
        except CONTENTION as error:
            raise Temporary(f"two transactions met: {error}", delay=0.05) from error


def read(entry: Entry) -> Event:
    """Return the event of a record.

    Raises:
        BadRecord: it cannot be read.
    """
    if isinstance(entry.record, Unreadable):
        raise BadRecord(entry.record.reason)
    event = Event.read(entry.record)
    object.__setattr__(event, "attempt", entry.attempt)
    return event


def _payload(event: Event, handler: Handler) -> dict[type, Contract]:
    contract = handler.contract or event.contract
    if contract is None:
        event.json()  # a catch-all sees JSON, or nobody does
        return {}
    try:
        return {contract: contract.decode(event.data)}
    except BadRecord:
        SCHEMA_FAILURES.labels(event.type).inc()
        raise


def _done(returned: object) -> Outcome:
    return Outcome(Kind.STALE if returned is STALE else Kind.PROCESSED)
