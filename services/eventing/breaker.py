"""The breaker before the dead letters: when too many records end there, it is not the records.

It opens when a share of the last records or a number of distinct ones in a row were given up. Nothing is dispatched
then but one record at a time that probes, further and further apart: what the probe comes to is carried out, so that
a flood of dead letters becomes a drip, and its success closes the breaker. The rule is Sentry Arroyo's `DlqLimit`
with a way back. No I/O and no clock of its own.
"""

from collections import deque
from collections.abc import Hashable


class Breaker:
    """Counts what is given up, and decides whether the next one may be."""

    def __init__(
        self,
        *,
        share: float = 0.2,
        window: int = 100,
        consecutive: int = 10,
        initial: float = 10.0,
        maximum: float = 60.0,
    ) -> None:
        """Describe the breaker.

        Args:
            share: part of the last `window` records that may be given up; 1 turns the rule off.
            window: records looked back on.
            consecutive: distinct records given up in a row that open it.
            initial: seconds before the first probe; doubled while probes fail.
            maximum: seconds between probes at most.
        """
        self.reason: str | None = None  # why it is open; None when closed
        self._share, self._consecutive = share, consecutive
        self._initial, self._maximum = initial, maximum
        self._window = window
        self._records = 0  # counted since it was last closed
        self._given_up: deque[int] = deque()  # their numbers, within the window
        self._row: set[Hashable] = set()
        self._delay = self._until = 0.0
        self._probe: Hashable | None = None

    def admits(self, now: float) -> bool:
        """Tell whether an attempt may start at `now` (monotonic seconds)."""
        return self.reason is None or (now >= self._until and self._probe is None)

    def started(self, record: Hashable) -> None:
        """Note that an attempt started: behind an open breaker it is the probe."""
        if self.reason is not None:
            self._probe = record

    def gives_up(self, record: Hashable, now: float) -> bool:
        """Count a record about to be dead-lettered; False when it has to wait instead, since the breaker is open."""
        if self.reason is not None:
            return self._probed(record, now)
        self._records += 1
        self._given_up.append(self._records)
        self._row.add(record)
        self.reason = self._tripped()
        if self.reason is not None:
            self._delay, self._until = self._initial, now + self._initial
        return self.reason is None

    def _probed(self, record: Hashable, now: float) -> bool:
        if record != self._probe:
            return False
        self._probe = None
        self._delay = min(self._delay * 2, self._maximum)
        self._until = now + self._delay
        return True

    def _tripped(self) -> str | None:
        if len(self._row) >= self._consecutive:
            return f"{len(self._row)} records in a row were given up"
        while self._given_up[0] <= self._records - self._window:
            self._given_up.popleft()
        if self._records >= self._window and len(self._given_up) > self._share * self._window:
            return f"{len(self._given_up)} of the last {self._window} records were given up"
        return None

    def passed(self, record: Hashable) -> bool:
        """Count a record that was handled; True when that closes the breaker."""
        self._records += 1
        if self._row:
            self._row.clear()
        if self.reason is None:
            return False
        if record != self._probe:
            return False
        self.reason = self._probe = None
        self._given_up.clear()
        self._records = 0
        return True

    def passed_over(self, record: Hashable) -> None:
        """Note that a probe never came to a handler (a duplicate, or parked with its key): the next one may start."""
        if record == self._probe:
            self._probe = None

    def undecided(self, record: Hashable, now: float) -> None:
        """Note that a probe ended without an answer; the next one waits as long as this one did."""
        if self.reason is not None and record == self._probe:
            self._probe, self._until = None, now + self._delay

    def wait(self, now: float) -> float:
        """Return the seconds until the next probe may start."""
        return max(self._until - now, 0.0)
