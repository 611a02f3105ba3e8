"""Lanes → one handler call: many events in one transaction; a batch that fails is halved until the fault is alone."""

import asyncio
import random
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from eventing import inbox, tracing
from eventing.attempt import DUPLICATE, Router, done, payload, read
from eventing.consumer import Consumer
from eventing.contract import Contract
from eventing.database import CONTENTION, Database, Transaction
from eventing.errors import Contended, Overload
from eventing.event import Event
from eventing.handler import Bound
from eventing.lane import Entry, Lane
from eventing.outcome import Kind, Ladder, Outcome
from eventing.parking import Parking
from eventing.retry_topic import early

MEETINGS = 5  # times a batch is tried again whole because its transaction met another
PAUSE = 0.05  # seconds between them, at most

Ends = dict[Entry, tuple[Event | None, Outcome]]


@dataclass(slots=True)
class Item:
    """An event of a batch on its way to the handler."""

    entry: Entry
    event: Event
    body: Contract | None
    bound: Bound


class Batches:
    """Runs the batch handler of one consumer."""

    def __init__(
        self,
        consumer: Consumer,
        ladder: Ladder,
        provided: dict[type, Any],
        *,
        threads: Executor | None = None,
        parking: Parking | None = None,
    ) -> None:
        """Describe the batches; see `Attempts`."""
        self._group = consumer.group
        self._ladder = ladder
        self._router = Router(consumer, provided, threads)
        self._database: Database | None = provided.get(Database)
        self._parking = parking

    async def run(self, entries: list[Entry]) -> Ends:
        """Handle records together; returns what each came to.

        Records behind one of their lane that did not finish are left out: they wait for it.
        """
        ends: Ends = {}
        items = await self._in_turn(self._read(entries, ends), ends)
        await self._try(items, ends)
        return _in_order(entries, ends)

    def _read(self, entries: list[Entry], ends: Ends) -> list[Item]:
        """Read the events; those that cannot be read, or concern nobody, have ended."""
        items = []
        for entry in entries:
            event: Event | None = None
            try:
                event = read(entry)
                bound = self._router.route(event)
                if waits := early(event, entry.record, self._ladder.longest):
                    ends[entry] = (event, waits)
                elif bound is None:
                    ends[entry] = (event, Outcome(Kind.SKIPPED))
                else:
                    items.append(Item(entry, event, payload(event, bound.handler), bound))
            except Exception as error:  # a body may fail in any way; the ladder decides
                ends[entry] = (event, self._ladder.judge(error, event.attempt if event else entry.attempt))
        return items

    async def _in_turn(self, items: list[Item], ends: Ends) -> list[Item]:
        """Leave out what has to follow its parked key, and what stands behind a record that did not finish.

        Also what stands behind one whose turn it is: until that one is done, nobody knows whether it is theirs.
        """
        run, stopped = [], {entry.lane: entry.record.offset for entry in reversed(ends) if not ends[entry][1].final}
        for item in items:
            if item.entry.record.offset > stopped.get(item.entry.lane, item.entry.record.offset):
                continue
            if self._parking is not None and self._parking.concerns(item.event, item.entry.record):
                try:
                    waits = await self._parking.turn(item.event, item.entry.record)
                except Overload as error:
                    waits = self._ladder.judge(error, item.event.attempt)
                if waits is None or not waits.final:
                    stopped[item.entry.lane] = item.entry.record.offset
                if waits is not None:
                    ends[item.entry] = (item.event, waits)
                    continue
            run.append(item)
        return run

    async def _try(self, items: list[Item], ends: Ends) -> None:
        """Call the handler; when it fails, call it for each half, leaving out what stands behind a failed event.

        Also what another member has meanwhile: a long batch that outlives its drain is halved no further.
        """
        items = [item for item in items if not item.entry.lane.partition.closed]
        if not items:
            return
        try:
            ends |= await self._call(items)
        except Exception as error:  # a handler may raise anything; the ladder decides
            if isinstance(error, Overload) or len(items) == 1:
                ends |= {i.entry: (i.event, self._ladder.judge(error, i.event.attempt)) for i in _heads(items)}
                return
            half = len(items) // 2
            await self._try(items[:half], ends)
            stopped = {i.entry.lane for i in items[:half] if i.entry not in ends or not ends[i.entry][1].final}
            await self._try([i for i in items[half:] if i.entry.lane not in stopped], ends)

    async def _call(self, items: list[Item]) -> Ends:
        """Call the handler, again and again when its transaction meets another; strike parked events off."""
        for _ in range(MEETINGS):
            try:
                with tracing.processed_batch([item.event for item in items], self._group):
                    ends = await self._once(items)
            except CONTENTION as error:
                met = error
                await asyncio.sleep(random.uniform(0, PAUSE))  # noqa: S311  # so that the two do not meet again
                continue
            for item in items:
                if self._parking is not None and self._parking.concerns(item.event, item.entry.record):
                    await self._parking.done(item.event, item.entry.record)
            return ends
        raise Contended(f"two transactions met: {met}") from met

    async def _once(self, items: list[Item]) -> Ends:
        if not items[0].bound.transactional:
            return await _hand(items, None)
        assert self._database is not None  # noqa: S101  # `provide` opens one for a transactional handler
        async with self._database.transaction() as tx:
            try:
                fresh = await inbox.claim_many(tx, self._group, [item.event for item in items])
            except TimeoutError as error:
                raise Contended("another process has one of these events in a transaction") from error
            ends: Ends = {item.entry: (item.event, DUPLICATE) for item in items}
            new = list({item.event.id: item for item in reversed(items) if item.event.id in fresh}.values())[::-1]
            return ends | (await _hand(new, tx) if new else {})


async def _hand(items: list[Item], tx: Transaction | None) -> Ends:
    bodies, events = [item.body for item in items], [item.event for item in items]
    outcome = done(await items[0].bound(bodies, events, tx))  # a consumer has one batch handler
    return {item.entry: (item.event, outcome) for item in items}


def _heads(items: list[Item]) -> list[Item]:
    """Return the first event of each lane: those behind it wait with it."""
    return list({item.entry.lane: item for item in reversed(items)}.values())


def _in_order(entries: list[Entry], ends: Ends) -> Ends:
    """Drop what was decided about records behind one of their lane that did not finish."""
    kept: Ends = {}
    stopped = set[Lane]()
    for entry in entries:
        if entry.lane in stopped:
            continue
        if entry in ends:
            kept[entry] = ends[entry]
        if entry not in ends or not ends[entry][1].final:
            stopped.add(entry.lane)
    return kept
