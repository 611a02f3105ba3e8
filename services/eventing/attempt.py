"""Lane → handler → effect: one attempt at one record, and what it came to."""

from collections.abc import Awaitable
from concurrent.futures import Executor
from typing import Any

from eventing import attributes, inbox, tracing
from eventing.consumer import STALE, Consumer
from eventing.contract import Contract
from eventing.database import CONTENTION, Database, Transaction
from eventing.errors import BadRecord, Contended, UnknownType
from eventing.event import Event
from eventing.handler import Bound, Handler
from eventing.lane import Entry
from eventing.metrics import SCHEMA_FAILURES
from eventing.outcome import Kind, Ladder, Outcome
from eventing.parking import Parking
from eventing.retry_topic import early
from eventing.unreadable import Unreadable

_PROCESSED, _STALE, _SKIPPED = Outcome(Kind.PROCESSED), Outcome(Kind.STALE), Outcome(Kind.SKIPPED)
DUPLICATE = Outcome(Kind.DUPLICATE)


class Router:
    """Finds the handler of an event, and its body."""

    def __init__(self, consumer: Consumer, provided: dict[type, Any], threads: Executor | None) -> None:
        bound = {id(handler): Bound(handler, provided, threads) for handler in consumer.all_handlers}
        self._handlers = {contract.event_type: bound[id(handler)] for contract, handler in consumer.handlers.items()}
        self._catch_all = bound[id(consumer.catch_all)] if consumer.catch_all else None
        self._keeps_unknown = consumer.unknown == "dead_letter"

    def route(self, event: Event) -> Bound | None:
        """Return the handler, None for an event that others care about.

        Raises:
            UnknownType: no contract describes it, and it is to be kept.
        """
        found = self._handlers.get(event.type, self._catch_all)
        if found is None and self._keeps_unknown and event.contract is None:
            raise UnknownType(f"no contract describes type {event.type!r}; deploy one that does, then redrive")
        return found


class Attempts:
    """Runs the handlers of one consumer, one event at a time."""

    def __init__(
        self,
        consumer: Consumer,
        ladder: Ladder,
        provided: dict[type, Any],
        *,
        threads: Executor | None = None,
        parking: Parking | None = None,
    ) -> None:
        """Describe the attempts.

        Args:
            consumer: the declared handlers.
            ladder: what follows from failures.
            provided: open resources by type; `Database` among them when a handler takes a transaction.
            threads: where sync handlers run.
            parking: the parked keys, when the exhausted are parked.
        """
        self._group = consumer.group
        self._ladder = ladder
        self._router = Router(consumer, provided, threads)
        self._database: Database | None = provided.get(Database)
        self._parking = parking

    async def run(self, entry: Entry) -> tuple[Event | None, Outcome]:
        """Handle a record once; never raises but for cancellation. The event is None when it cannot be read."""
        event: Event | None = None
        try:
            event = read(entry)
            if event.not_before is not None and (waits := early(event, entry.record, self._ladder.longest)):
                return event, waits
            if self._parking is not None and self._parking.concerns(event, entry.record):
                return event, await self._in_turn(self._parking, event, entry)
            return event, await self._handle(event, entry)
        except Exception as error:  # a handler may raise anything; the ladder decides
            return event, self._ladder.judge(error, event.attempt if event else entry.attempt)

    async def _in_turn(self, parking: Parking, event: Event, entry: Entry) -> Outcome:
        """Handle an event of a key that may be parked."""
        if (waits := await parking.turn(event, entry.record)) is not None:
            return waits
        outcome = await self._handle(event, entry)
        if outcome.final:
            await parking.done(event, entry.record)
        return outcome

    def _handle(self, event: Event, entry: Entry) -> Awaitable[Outcome]:
        return self._traced(event, entry) if tracing.exporting() else self._run(event)

    async def _traced(self, event: Event, entry: Entry) -> Outcome:
        record = entry.record
        with tracing.processed(
            event, topic=record.topic, partition=record.partition, offset=record.offset,
            written=record.timestamp, group=self._group, previous=entry.previous,
        ) as span:  # fmt: skip
            entry.previous = span
            return await self._run(event)

    async def _run(self, event: Event) -> Outcome:
        bound = self._router.route(event)
        if bound is None:
            return _SKIPPED
        body = payload(event, bound.handler)
        cause = tracing.CAUSE.set(event)
        try:
            if not bound.transactional:
                return done(await bound(body, event))
            return await self._once(bound, body, event)
        finally:
            tracing.CAUSE.reset(cause)

    async def _once(self, bound: Bound, body: Contract | None, event: Event) -> Outcome:
        """Run the handler in a transaction that begins with the inbox row."""
        assert self._database is not None  # noqa: S101  # `provide` opens one for a transactional handler
        try:
            with tracing.effect("transaction") as span:
                async with self._database.transaction() as tx:
                    if not await self._claim(tx, event):
                        span.set_attribute(attributes.DUPLICATE, value=True)
                        return DUPLICATE
                    return done(await bound(body, event, tx))
        except CONTENTION as error:
            raise Contended(f"two transactions met: {error}") from error

    async def _claim(self, tx: Transaction, event: Event) -> bool:
        try:
            return await inbox.claim(tx, self._group, event)
        except TimeoutError as error:
            raise Contended("another process has this event in a transaction") from error


def read(entry: Entry) -> Event:
    """Return the event of a record.

    Raises:
        BadRecord: it cannot be read.
    """
    if isinstance(entry.record, Unreadable):
        raise BadRecord(entry.record.reason)
    event = Event.read(entry.record)
    event.attempt += entry.attempt - 1
    return event


def payload(event: Event, handler: Handler) -> Contract | None:
    """Return the body as its contract has it; None for an event of a type that only a catch-all takes.

    Raises:
        BadRecord: the body breaks its contract, or is no JSON.
    """
    contract = handler.contract or event.contract
    if contract is None:
        event.json()  # a catch-all sees JSON, or nobody does
        return None
    try:
        return contract.decode(event.data)
    except BadRecord:
        SCHEMA_FAILURES.labels(event.type).inc()
        raise


def done(returned: object) -> Outcome:
    """Return the outcome of a handler that returned."""
    return _STALE if returned is STALE else _PROCESSED
