"""Lanes → handlers: a pool of workers takes what may run, and settles what came of it.

Workers are long-lived and take records themselves: a task per record costs more than many a handler.
"""

import asyncio
import time
from collections import deque

import structlog

from eventing import logs
from eventing.attempt import Attempts
from eventing.dead_letter import DeadLetters
from eventing.event import Event
from eventing.gate import Gate
from eventing.lanes import Entry, Lanes
from eventing.meters import Meters
from eventing.outcome import Kind, Outcome

BREATH = 32  # records a worker takes before it lets heartbeats and polls have their turn
DLQ_BACKOFF = (1.0, 60.0)  # seconds between tries to write a dead letter: first, at most

log = structlog.get_logger()


class Dispatcher:
    """The workers of one consumer."""

    def __init__(self, group: str, lanes: Lanes, attempts: Attempts, dead_letters: DeadLetters) -> None:
        self.gate = Gate()
        self.finished = 0  # records since the last commit
        self.dlq_failing_since: float | None = None  # monotonic seconds
        self._group = group
        self._meters = Meters(group)
        self._lanes = lanes
        self._attempts = attempts
        self._dead_letters = dead_letters
        self._idle: deque[asyncio.Future[None]] = deque()
        self._ended = asyncio.Event()
        self._timers: set[asyncio.TimerHandle] = set()

    async def run(self, concurrency: int) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(self._work())

    def wake(self) -> None:
        """Let idle workers look again: records came, or the gate may have opened."""
        for _ in range(min(len(self._idle), max(1, self._lanes.records))):
            future = self._idle.popleft()
            if not future.done():
                future.set_result(None)

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

    def close(self) -> None:
        """Forget every pending timer."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    async def _work(self) -> None:
        taken = 0
        while True:
            entry = self._lanes.take() if self.gate.admits(time.monotonic()) else None
            if entry is None:
                future = asyncio.get_running_loop().create_future()
                self._idle.append(future)
                await future
                continue
            self.gate.started()
            await self._serve(entry)
            taken += 1
            if taken % BREATH == 0:
                await asyncio.sleep(0)

    async def _serve(self, entry: Entry) -> None:
        """Attempt a record, then settle it, unless its partition has gone meanwhile."""
        started = time.perf_counter()
        event: Event | None = None
        try:
            if entry.verdict is None:
                event, outcome = await self._attempts.run(entry)
                self._meters.attempted(entry.record.topic, outcome, time.perf_counter() - started)
                entry.verdict = (event, outcome) if outcome.kind is Kind.DEAD_LETTERED else None
            else:
                event, outcome = entry.verdict
            delay = await self._bury(entry, event, outcome) if outcome.kind is Kind.DEAD_LETTERED else None
        finally:
            current = self._lanes.ended(entry)
            self._ended.set()
        self._settle(entry, event, outcome, delay, current=current)

    async def _bury(self, entry: Entry, event: Event | None, outcome: Outcome) -> float | None:
        """Write the dead letter; returns seconds to wait before trying again, None when it is written."""
        try:
            await self._dead_letters.write(entry, event, outcome)
        except Exception as error:  # whatever it is: the record must not be passed over, and the worker must live
            now = time.monotonic()
            self.dlq_failing_since = self.dlq_failing_since or now
            reason = f"{type(error).__name__}: {error}"
            log.error("dead_letter_not_written", group=self._group, error=reason, **_place(entry))
            return min(max(DLQ_BACKOFF[0], now - self.dlq_failing_since), DLQ_BACKOFF[1])
        self.dlq_failing_since = None
        return None

    def _settle(
        self, entry: Entry, event: Event | None, outcome: Outcome, delay: float | None, *, current: bool
    ) -> None:
        """Carry out the outcome. A stale one (not `current`) changes nothing: the record belongs to another."""
        if not current:
            log.info("stale_completion", group=self._group, outcome=outcome.kind, **_place(entry))
            self.gate.undecided()
            self.wake()
            return
        shut = self.gate.reason is not None
        if outcome.kind is Kind.OVERLOADED:
            self._hold(entry, outcome)
        elif delay is not None:
            self.gate.undecided()
            self._later(entry, delay)
        elif outcome.kind is Kind.RETRIED:
            self._meters.ended(entry.record.topic, event, outcome)
            self._retry(entry, outcome)
        else:
            self._meters.ended(entry.record.topic, event, outcome)
            self._finish(entry, event, outcome)
        self._note(entry, event, outcome)
        if shut and self.gate.reason is None:
            self.wake()  # the dependency is back: everybody may go on

    def _finish(self, entry: Entry, event: Event | None, outcome: Outcome) -> None:
        if outcome.kind is Kind.PROCESSED:
            self.gate.passed()
        else:
            self.gate.undecided()
        self._lanes.finish(entry)
        self.finished += 1
        if event is not None:
            self._meters.effective(event)

    def _retry(self, entry: Entry, outcome: Outcome) -> None:
        self.gate.passed()
        entry.attempt += 1
        entry.first_failed = entry.first_failed or time.time()
        self._later(entry, outcome.delay)

    def _hold(self, entry: Entry, outcome: Outcome) -> None:
        was = self.gate.reason
        delay = self.gate.overloaded(str(outcome.error), time.monotonic())
        if was is None:
            log.warning("consumer_holds", group=self._group, reason=self.gate.reason)
        self._later(entry, delay)

    def _later(self, entry: Entry, delay: float) -> None:
        """Let a record rest and run again; only its own key waits."""

        def again() -> None:
            self._timers.discard(timer)
            self._lanes.again(entry)
            self.wake()

        timer = asyncio.get_running_loop().call_later(delay, again)
        self._timers.add(timer)

    def _note(self, entry: Entry, event: Event | None, outcome: Outcome) -> None:
        """Log a failure once, with the ids that find it again."""
        if outcome.error is None or outcome.kind is Kind.OVERLOADED:
            return
        known = logs.ids(event, self._group) if event else _place(entry) | {"group": self._group}
        log.log(
            40 if outcome.kind is Kind.DEAD_LETTERED else 30,
            outcome.kind.value,
            **known,
            error_type=type(outcome.error).__name__,
            error=str(outcome.error),
            disposition=outcome.disposition or None,
        )


def _place(entry: Entry) -> dict[str, object]:
    record = entry.record
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}
