"""What follows from an outcome: finished, tried again, held back, or written elsewhere before it is finished."""

import asyncio
import time
from collections.abc import Callable

import structlog

from eventing import logs
from eventing.breaker import Breaker
from eventing.clock import monotonic, wall
from eventing.dead_letter import DeadLetters, origin
from eventing.event import Event
from eventing.gate import Gate
from eventing.lane import Entry
from eventing.lanes import Lanes
from eventing.meters import Meters
from eventing.metrics import DEAD_LETTERS
from eventing.outcome import PARKED, Kind, Outcome
from eventing.parking import Parking
from eventing.retry_topic import RetryTopics

WRITE_BACKOFF = (1.0, 60.0)  # seconds between tries to write a dead letter or a retry: first, at most

log = structlog.get_logger()


class Settlement:
    """Carries out the outcomes of one consumer."""

    def __init__(
        self,
        group: str,
        lanes: Lanes,
        *,
        dead_letters: DeadLetters,
        retry_topics: RetryTopics,
        breaker: Breaker,
        parking: Parking | None,
    ) -> None:
        """Describe the settlement.

        Args:
            group: the consumer group.
            lanes: whose records end here.
            dead_letters: where the exhausted go.
            retry_topics: where those go that are tried again later, when there are retry topics.
            breaker: stands before the dead letters.
            parking: the parked keys, when the exhausted are parked.
        """
        self.gate = Gate()
        self.breaker = breaker
        self.unwritten_since: float | None = None  # monotonic seconds: since when no dead letter gets through
        self.wake: Callable[[], None] = lambda: None  # lets workers look again
        self._group = group
        self._lanes = lanes
        self._dead_letters = dead_letters
        self._retry_topics = retry_topics
        self._parking = parking
        self._meters = Meters(group)
        self._timers: set[asyncio.TimerHandle] = set()

    def admits(self) -> bool:
        """Tell whether an attempt may start now."""
        if not self.shut:
            return True
        now = monotonic()
        return self.gate.admits(now) and self.breaker.admits(now)

    @property
    def shut(self) -> bool:
        """True while the gate or the breaker lets nothing through but what probes."""
        return self.gate.reason is not None or self.breaker.reason is not None

    def started(self, entry: Entry) -> None:
        """Note that an attempt starts, when `admits` had to look twice."""
        if self.gate.reason is not None:
            self.gate.started()
        if self.breaker.reason is not None:
            self.breaker.started(entry)

    def attempted(self, entry: Entry, outcome: Outcome) -> None:
        """Measure an attempt."""
        if outcome.kind is not Kind.EARLY:
            self._meters.attempted(entry.record.topic, outcome, time.perf_counter() - entry.started, entry.previous)

    async def write(self, entry: Entry, event: Event | None, outcome: Outcome) -> float | None:
        """Write a record where it goes next; returns seconds to wait before trying again, None when it is written."""
        if outcome.kind is Kind.DEAD_LETTERED and outcome.disposition != PARKED:
            now = monotonic()
            if not self.breaker.gives_up(entry, now):
                entry.verdict = None  # handled again when the breaker lets it: by then it may work
                return self.breaker.wait(now)
        entry.verdict = (event, outcome)
        try:
            if outcome.kind is not Kind.DEAD_LETTERED:
                assert event is not None  # noqa: S101  # what cannot be read is not retried
                await self._retry_topics.write(entry, event, outcome)
            else:
                await self._bury(entry, event, outcome)
        except Exception as error:  # whatever it is: the record must not be passed over, and the worker must live
            return self._unwritten(entry, error)
        self.unwritten_since = None
        return None

    async def _bury(self, entry: Entry, event: Event | None, outcome: Outcome) -> None:
        if self._parking is not None:
            await self._parking.park(entry.record.key, *origin(entry.record, event))
        await self._dead_letters.write(entry, event, outcome)
        DEAD_LETTERS.labels(self._group, event.topic if event else entry.record.topic, outcome.disposition).inc()

    def _unwritten(self, entry: Entry, error: Exception) -> float:
        now = monotonic()
        self.unwritten_since = now if self.unwritten_since is None else self.unwritten_since
        reason = f"{type(error).__name__}: {error}"
        log.error("dead_letter_not_written", group=self._group, error=reason, **_place(entry))
        return min(max(WRITE_BACKOFF[0], now - self.unwritten_since), WRITE_BACKOFF[1])

    def settle(self, entry: Entry, event: Event | None, outcome: Outcome, delay: float | None = None) -> bool:
        """Carry out an outcome of an attempt that still counts; True when the record is finished.

        `delay` is what `write` returned: seconds to wait before the record may be written.
        """
        shut = self.shut
        if outcome.final:
            finished = self._finish(entry, event, outcome)
        elif outcome.leaves and delay is None:
            if outcome.disposition == PARKED:
                self.breaker.passed_over(entry)
            self._undecided(entry)
            finished = self._finish(entry, event, outcome)
        else:
            finished = self._wait(entry, event, outcome, delay)
        if outcome.error is not None and delay is None:
            self._note(entry, event, outcome)
        if shut and not self.shut:
            self.wake()  # what was shut is open: everybody may go on
        return finished

    def stale(self, entry: Entry, outcome: Outcome) -> None:
        """Pass over an attempt that no longer counts: its partition has gone, the record belongs to another."""
        log.info("stale_completion", group=self._group, outcome=outcome.kind, **_place(entry))
        self._undecided(entry)
        self.wake()

    def close(self) -> None:
        """Forget every pending timer."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _finish(self, entry: Entry, event: Event | None, outcome: Outcome) -> bool:
        effective = outcome.kind is not Kind.RETRIED
        self._meters.ended(entry.record.topic, event, outcome, wall() if effective else None, entry.previous)
        if outcome.kind is Kind.PROCESSED:
            if self.gate.reason is not None:
                self.gate.passed()
            self.breaker.passed(entry)
        elif outcome.final:
            self.breaker.passed_over(entry)
            self._undecided(entry)
        self._lanes.finish(entry)
        return True

    def _wait(self, entry: Entry, event: Event | None, outcome: Outcome, delay: float | None) -> bool:
        """Let a record rest before its next attempt, or before it is written; only its own key waits."""
        if outcome.kind is Kind.OVERLOADED:
            self.breaker.undecided(entry, monotonic())
            delay = self._hold(outcome)
        elif outcome.kind is Kind.CONTENDED:
            self._undecided(entry)
            delay = outcome.delay
        elif outcome.kind is Kind.EARLY:
            self._undecided(entry)
            delay = outcome.delay
            self._lanes.hold(entry.lane.partition.place, monotonic() + delay)
        elif delay is None:
            self._meters.ended(entry.record.topic, event, outcome)
            self.gate.passed()
            self.breaker.undecided(entry, monotonic())
            entry.attempt += 1
            entry.first_failed = entry.first_failed or wall()
            delay = outcome.delay
        else:
            self._undecided(entry)
        self._later(entry, delay)
        return False

    def _undecided(self, entry: Entry) -> None:
        self.gate.undecided()
        if self.breaker.reason is not None:
            self.breaker.undecided(entry, monotonic())

    def _hold(self, outcome: Outcome) -> float:
        was, now = self.gate.reason, monotonic()
        delay = self.gate.overloaded(str(outcome.error), now)
        if was is None:
            log.warning("consumer_holds", group=self._group, reason=self.gate.reason)
        return delay

    def _later(self, entry: Entry, delay: float) -> None:
        def again() -> None:
            self._timers.discard(timer)
            self._lanes.again(entry)
            self.wake()

        self._lanes.rest(entry)
        timer = asyncio.get_running_loop().call_later(delay, again)
        self._timers.add(timer)

    def _note(self, entry: Entry, event: Event | None, outcome: Outcome) -> None:
        """Log a failure once, with the ids that find it again."""
        if outcome.kind in (Kind.OVERLOADED, Kind.CONTENDED):
            return
        known = logs.ids(event, self._group) if event else _place(entry) | {"group": self._group}
        log.log(
            40 if outcome.kind in (Kind.DEAD_LETTERED, Kind.BLOCKED) else 30,
            outcome.kind.value,
            **known,
            error_type=type(outcome.error).__name__,
            error=str(outcome.error),
            disposition=outcome.disposition or None,
        )


def _place(entry: Entry) -> dict[str, object]:
    record = entry.record
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}
