"""Is this consumer alive? Measured by its progress, never by pings: a consumer that silently stopped looks well.

It is dead when its poll loop is silent, when it has waited too long to rejoin its group although a broker answers, or
when records wait that nobody works on. Whatever it waits for on purpose (a dependency that is down, a key that
blocks, a dead letter that is not written, an open breaker, a backoff) is no reason to restart it. No I/O.
"""

from dataclasses import dataclass

POLL_LIMIT = 30.0  # seconds of silence of the poll loop
REJOIN_LIMIT = 120.0  # seconds of a rebalance, while a broker answers
STUCK_LIMIT = 120.0  # seconds without progress, with records waiting and nothing on its way


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of a consumer at one moment.

    `finished` records, ever; `behind`: records between its watermarks and the ends the broker tells, None when it did
    not tell; `waits`: something runs, rests, or is held back on purpose.
    """

    now: float
    finished: int
    behind: int | None
    waits: bool
    rejoining: bool
    answers: bool


class Progress:
    """Judges a consumer by what was seen of it over time."""

    def __init__(self) -> None:
        self._finished = -1
        self._rejoining = False
        self._stuck_since: float | None = None
        self._rejoining_since: float | None = None

    def see(self, sight: Sight) -> None:
        """Take note of a sight; call every few seconds."""
        moved = sight.finished != self._finished
        self._finished, self._rejoining = sight.finished, sight.rejoining
        if moved or sight.waits or sight.rejoining or sight.behind == 0:
            self._stuck_since = None
        elif sight.behind:
            self._stuck_since = sight.now if self._stuck_since is None else self._stuck_since
        if not (sight.rejoining and sight.answers):
            self._rejoining_since = None
        elif self._rejoining_since is None:
            self._rejoining_since = sight.now

    def dead(self, now: float, polled: float) -> str | None:
        """Return why this process should be restarted, None when it should not.

        Args:
            now: seconds of the loop's clock.
            polled: when the poll loop last came round.
        """
        if self._rejoining_since is not None and now - self._rejoining_since > REJOIN_LIMIT:
            return f"it has been rejoining its group for {now - self._rejoining_since:.0f} s although a broker answers"
        if self._stuck_since is not None and now - self._stuck_since > STUCK_LIMIT:
            return f"records wait, and nothing has happened for {now - self._stuck_since:.0f} s"
        if not self._rejoining and now - polled > POLL_LIMIT:
            return f"the poll loop has been silent for {now - polled:.0f} s"
        return None
