"""`eventing trace` and `eventing why`: one event id, and five minutes."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated

import typer

from eventing import headers, logs, trail
from eventing.database import Database
from eventing.dead_letter_queue import DeadLetterQueue
from eventing.errors import EventingError
from eventing.letter import DeadLetter
from eventing.letter_text import visible
from eventing.settings import settings

EventId = Annotated[str, typer.Argument(metavar="EVENT_ID", help="ce_id, or topic-partition-offset without one")]
Topics = Annotated[list[str] | None, typer.Option("--topic", help="Look only there; again for more")]


@dataclass(frozen=True)
class Trail:
    """All that is known of an event."""

    stops: list[trail.Stop]
    waiting: list[trail.Waiting]
    handled: list[str]  # groups with an inbox row
    readers: list[trail.Reader]
    given_up: list[DeadLetter]  # letters that wait


def trace(event_id: EventId, topic: Topics = None) -> None:
    """Show every record of an event, in order, with the trace of each hop."""
    found = asyncio.run(_follow(event_id, topic or []))
    _known(event_id, found)
    for line in _way(found):
        typer.echo(line)


def why(event_id: EventId, topic: Topics = None) -> None:
    """Say where an event is, who has handled it, and what to type next."""
    found = asyncio.run(_follow(event_id, topic or []))
    _known(event_id, found)
    for line in (*_before(found), *_groups(found), *_letters(found)):
        typer.echo(line)


def _known(event_id: str, found: Trail) -> None:
    if not found.stops and not found.waiting:
        raise EventingError(
            f"{visible(event_id)} is in no topic"
            + (
                " and in no outbox"
                if settings().database_url
                else "; set EVENTING_DATABASE_URL to look into the outbox"
            )
            + ": its transaction did not commit, its retention has ended, or the id is another's"
        )


async def _follow(event_id: str, topics: list[str]) -> Trail:
    logs.quiet_client()
    async with AsyncExitStack() as stack:
        waiting, handled = list[trail.Waiting](), list[str]()
        if settings().database_url:
            database = await stack.enter_async_context(Database.of(settings()))
            waiting, handled = await trail.stored(database, event_id)
        stops = await trail.stops(settings(), event_id, topics)
        first = next((stop for stop in stops if stop.kind == "published"), None)
        readers = await trail.readers(settings(), first.letter.record) if first else []
        queues = sorted({stop.letter.record.topic for stop in stops if stop.kind == "dead letter"})
        given_up = [letter for queue in queues for letter in await _waiting(queue, event_id)]
    return Trail(stops, waiting, handled, readers, given_up)


async def _waiting(queue: str, event_id: str) -> list[DeadLetter]:
    """Return the letters of an event that have been neither redriven nor discarded."""
    async with DeadLetterQueue.open(queue, settings()) as opened:
        return [letter async for letter in opened.letters() if letter.known.get(headers.ID) == event_id]


def _way(found: Trail) -> Iterator[str]:
    """Describe the hops, the first one with what all share."""
    for row in found.waiting:
        yield f"{row.since:%H:%M:%S.%f}  outbox       {row.topic}: {row.reason or 'waits for the relay'}"
    for stop in found.stops:
        known = stop.letter.known
        yield (
            f"{stop.at:%H:%M:%S.%f}  {stop.kind:<12} {visible(stop.place)}"
            f"{'  trace ' + visible(stop.trace_id) if stop.trace_id else ''}"
            f"{'  ' + visible(known.get(headers.ERROR_TYPE, '')) if stop.kind == 'dead letter' else ''}"
        )
    if found.stops:
        known = found.stops[0].letter.known
        yield f"type {visible(known.get(headers.TYPE, '?'))}, from {visible(known.get(headers.SOURCE, '?'))}"
        if origin := trail.trace_of(known.get(headers.ORIGIN_TRACEPARENT)):
            yield f"began in trace {visible(origin)}"
        if story := known.get(headers.CORRELATIONID):
            yield f"story (correlation id) {visible(story)}"


def _before(found: Trail) -> Iterator[str]:
    """Say what keeps it from Kafka."""
    for row in found.waiting:
        if row.reason is None:
            yield f"it is in the outbox since {row.since:%F %T} UTC; `eventing outbox status` says what it waits for"
        else:
            yield (
                f"its key is blocked: {visible(row.reason)}; remove the cause, then "
                f'`eventing outbox repair --key {visible(row.key or "")} --why "..."`'
            )


def _groups(found: Trail) -> Iterator[str]:
    """Say how far each group is."""
    for reader in found.readers:
        if reader.group in found.handled:
            yield f"{reader.group}: handled, its inbox says so"
        elif reader.before:
            yield f"{reader.group}: not yet, {reader.before} records to go; its `/readyz` says what it waits for"
        else:
            yield f"{reader.group}: has gone past it"


def _letters(found: Trail) -> Iterator[str]:
    """Say who gave it up, and how it comes back."""
    for letter in found.given_up:
        known = letter.known
        yield (
            f"{visible(known.get(headers.GROUP, 'a group'))}: gave it up ({visible(letter.reason)}) after "
            f"{visible(known.get(headers.ATTEMPT, '?'))} attempts: {visible(known.get(headers.ERROR_TYPE, '?'))}: "
            f"{visible(known.get(headers.ERROR_MESSAGE, ''))}"
        )
        yield f"  remove the cause, then `eventing dlq redrive {letter.record.topic} --id {visible(letter.id)}`"
