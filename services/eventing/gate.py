"""The gate before the handlers: closed while a dependency is down, half open to try it, open when it is back.

No I/O and no clock of its own, so that its rules can be tested by themselves.
"""


class Gate:
    """Lets everything through, or nothing, or one attempt that tries for all."""

    def __init__(self, *, initial: float = 0.5, maximum: float = 30.0) -> None:
        """Describe the gate.

        Args:
            initial: seconds it stays closed the first time; doubled while the dependency stays down.
            maximum: seconds it stays closed at most.
        """
        self._initial = initial
        self._maximum = maximum
        self._delay = 0.0
        self._until = 0.0
        self._trying = False
        self.reason: str | None = None  # what is down; None when open

    def admits(self, now: float) -> bool:
        """Tell whether an attempt may start at `now` (monotonic seconds)."""
        return self.reason is None or (now >= self._until and not self._trying)

    def started(self) -> None:
        """Note that an attempt started: behind a closed gate it is the one that tries."""
        self._trying = self.reason is not None

    def overloaded(self, reason: str, now: float) -> float:
        """Close the gate; returns the seconds until the next try. Attempts that fail together count once."""
        if self.reason is None or self._trying:
            self._delay = min(max(self._delay * 2, self._initial), self._maximum)
            self._until = now + self._delay
        self.reason, self._trying = reason, False
        return max(self._until - now, 0.0)

    def passed(self) -> None:
        """Open the gate: an attempt got through."""
        self._delay, self._trying, self.reason = 0.0, False, None

    def undecided(self) -> None:
        """Note that an attempt ended without telling anything about the dependency; another may try."""
        self._trying = False
