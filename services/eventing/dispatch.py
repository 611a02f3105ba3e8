"""Lanes → handlers: a pool of workers takes what may run, and settles what came of it.

Workers are long-lived and take records themselves: a task per record costs more than many a handler. As long as
handlers do not wait, one worker runs them all, and others are woken only when one does: a hundred woken at once would
do a hundred turns of work before the next poll.
"""

import asyncio
import time
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

from eventing.attempt import Attempts
from eventing.batch import Batches, Ends
from eventing.lane import Entry, Lane
from eventing.lanes import Lanes
from eventing.settle import Settlement

BREATH = 32  # records a worker takes before it lets heartbeats and polls have their turn


@types.coroutine
def noticing(work: Coroutine[Any, Any, int], waits: Callable[[], None]) -> Generator[Any, Any, int]:
    """Await work in the same task; call `waits` when it waits for the first time, so never when it runs through."""
    try:
        awaited = work.send(None)
    except StopIteration as end:
        return int(end.value)
    waits()
    while True:
        try:
            sent = yield awaited
        except BaseException as error:  # a cancellation too belongs to the work
            step = partial(work.throw, error)
        else:
            step = partial(work.send, sent)
        try:
            awaited = step()
        except StopIteration as end:
            return int(end.value)


class Dispatcher:
    """The workers of one consumer."""

    def __init__(
        self, lanes: Lanes, settlement: Settlement, work: Attempts | Batches, *, batch: int | None = None
    ) -> None:
        """Describe the workers.

        Args:
            lanes: what they take from.
            settlement: carries out what came of it.
            work: calls the handlers, one record at a time, or many.
            batch: records of a batch, at most; None for one at a time.
        """
        self._lanes = lanes
        self._settlement = settlement
        self._idle: deque[asyncio.Future[None]] = deque()
        self._ended = asyncio.Event()
        self._serve_next = self._one(work) if isinstance(work, Attempts) else self._many(work, batch or 1)
        settlement.wake = self.wake

    async def run(self, concurrency: int) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(self._work())

    def wake(self) -> None:
        """Let an idle worker look again: records came, or the gate may have opened; it calls others when it waits."""
        while self._idle:
            future = self._idle.popleft()
            if not future.done():
                future.set_result(None)
                return

    def _waits(self) -> None:
        if self._idle and self._lanes.waiting:
            self.wake()

    async def drained(self, seconds: float) -> bool:
        """Wait until no handler runs, at most `seconds`; False when some still do."""
        try:
            async with asyncio.timeout(seconds):
                while self._lanes.running:
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            return False
        return True

    async def _work(self) -> None:
        taken = 0
        while True:
            served = await noticing(self._serve_next(), self._waits) if self._settlement.admits() else 0
            if not served:
                future = asyncio.get_running_loop().create_future()
                self._idle.append(future)
                await future
                continue
            taken += served
            if taken >= BREATH:
                taken = 0
                await asyncio.sleep(0)

    def _one(self, attempts: Attempts) -> Callable[[], Coroutine[Any, Any, int]]:
        lanes, settlement = self._lanes, self._settlement

        async def serve() -> int:
            """Attempt a record, then settle it, unless its partition has gone meanwhile; returns how many ran."""
            entry = lanes.take()
            if entry is None:
                return 0
            if settlement.shut:
                settlement.started(entry)
            delay = None
            try:
                if entry.verdict is None:
                    entry.started = time.perf_counter()
                    event, outcome = await attempts.run(entry)
                    settlement.attempted(entry, outcome)
                else:
                    event, outcome = entry.verdict
                if outcome.leaves and not entry.lane.partition.closed:  # else it is another member's to write
                    delay = await settlement.write(entry, event, outcome)
            finally:
                current = lanes.ended(entry)
                self._ended.set()
            if not current:
                settlement.stale(entry, outcome)
            elif settlement.settle(entry, event, outcome, delay):
                lanes.release(entry.lane)
            return 1

        return serve

    def _many(self, batches: Batches, size: int) -> Callable[[], Coroutine[Any, Any, int]]:
        lanes, settlement = self._lanes, self._settlement

        async def serve() -> int:
            """Attempt a batch, then settle each record of it; returns how many there were."""
            probing = settlement.gate.reason is not None or settlement.breaker.reason is not None
            entries = lanes.take_many(1 if probing else size)
            if not entries:
                return 0
            settlement.started(entries[0])
            ends: Ends = {entry: entry.verdict for entry in entries if entry.verdict is not None}
            delays: dict[Entry, float | None] = {}
            try:
                started = time.perf_counter()
                for entry in entries:
                    entry.started = started
                ends |= await batches.run([entry for entry in entries if entry not in ends])
                for entry, (event, outcome) in ends.items():
                    settlement.attempted(entry, outcome)
                    if outcome.leaves and not entry.lane.partition.closed:
                        delays[entry] = await settlement.write(entry, event, outcome)
            finally:
                heads = list({entry.lane: entry for entry in reversed(entries)}.values())
                current = {entry.lane for entry in heads if lanes.ended(entry)}
                self._ended.set()
            self._settle_many(entries, ends, delays, current)
            return len(entries)

        return serve

    def _settle_many(
        self, entries: list[Entry], ends: Ends, delays: dict[Entry, float | None], current: set[Lane]
    ) -> None:
        waiting = set[Lane]()  # lanes that go on by themselves, when what rests in them runs again
        for entry in entries:
            if entry not in ends:
                continue
            event, outcome = ends[entry]
            if entry.lane not in current:
                self._settlement.stale(entry, outcome)
            elif not self._settlement.settle(entry, event, outcome, delays.get(entry)):
                waiting.add(entry.lane)
        for lane in current - waiting:
            self._lanes.release(lane)
