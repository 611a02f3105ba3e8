"""What an attempt came to, decided without any I/O: the failure ladder.

`Overload` → again without counting; `Temporary` and everything unexpected → again, until the attempts are used up;
`Permanent` and the end of the attempts → what the consumer chose for the exhausted: dead letter, or wait.
"""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from tenacity import RetryCallState, wait_random_exponential
from tenacity.wait import wait_base

from eventing.errors import BadRecord, Contended, Misconfigured, Overload, Parked, Permanent, Temporary, UnknownType

CONTENDED_AGAIN = (0.02, 0.2)  # seconds, at random, so that the same two do not meet again
BLOCKED_AT_LEAST = 1.0  # seconds between attempts at an event that blocks its key


class Kind(StrEnum):
    """How an attempt ended; the label `outcome` of `consumer_events_total`."""

    PROCESSED = "processed"
    DUPLICATE = "duplicate"
    STALE = "stale"
    SKIPPED = "skipped"
    RETRIED = "retried"
    BLOCKED = "blocked"
    DEAD_LETTERED = "dead_lettered"
    OVERLOADED = "overloaded"
    EARLY = "early"  # read before its time; not counted
    CONTENDED = "contended"  # another transaction is in the way; not counted


_FINAL = frozenset({Kind.PROCESSED, Kind.DUPLICATE, Kind.STALE, Kind.SKIPPED})

Exhausted = Literal["skip", "block", "park_key"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one attempt.

    `delay` is in seconds, for RETRIED, BLOCKED, EARLY and CONTENDED. `tier` says that the next attempt is made from
    the retry topic of that delay. `disposition` says why an event is dead-lettered: undecodable, unknown-type,
    permanent, exhausted or sequence-parked. `error` is what the handler raised, if it did.
    """

    kind: Kind
    delay: float = 0.0
    disposition: str = ""
    error: Exception | None = None
    tier: int | None = None

    final: bool = field(init=False)  # nothing has to follow: the record is finished
    leaves: bool = field(init=False)  # the record has to be written elsewhere before it is finished

    def __post_init__(self) -> None:
        """Decide once what every record asks."""
        object.__setattr__(self, "final", self.kind in _FINAL)
        object.__setattr__(self, "leaves", self.kind is Kind.DEAD_LETTERED or self.tier is not None)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how far apart an event is tried.

    Args:
        attempts: attempts before the dead letter.
        wait: any wait strategy of tenacity, in seconds; the default is full jitter below a doubling ceiling.

    Raises:
        Misconfigured: there would be no attempt.
    """

    attempts: int = 5
    wait: wait_base = field(default_factory=lambda: wait_random_exponential(multiplier=0.5, max=60))

    def __post_init__(self) -> None:
        """Refuse what could never work."""
        if not isinstance(self.attempts, int) or self.attempts < 1:
            raise Misconfigured(f"attempts is {self.attempts!r}; an event is tried at least once")

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after `attempt` (from 1) has failed."""
        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]  # a wait reads attempt_number alone
        state.attempt_number = attempt
        return float(self.wait(state))


@dataclass(frozen=True, slots=True)
class Ladder:
    """What follows from failures: how often to try, where from, and what becomes of the exhausted.

    Args:
        retries: attempts within the lane, and their waits.
        exhausted: see `Consumer`.
        tiers: seconds of each retry topic; with them, an event is tried once here and once from each of them.
    """

    retries: Retries = field(default_factory=Retries)
    exhausted: Exhausted = "skip"
    tiers: tuple[int, ...] = ()

    @property
    def attempts(self) -> int:
        """Attempts before an event counts as exhausted."""
        return len(self.tiers) + 1 if self.tiers else self.retries.attempts

    @property
    def longest(self) -> int:
        """Seconds an event waits in a retry topic, at most."""
        return self.tiers[-1] if self.tiers else 0

    def judge(self, error: Exception, attempt: int) -> Outcome:
        """Decide what follows from a failed attempt (from 1)."""
        if isinstance(error, Overload):
            return Outcome(Kind.OVERLOADED, error=error)
        if isinstance(error, Contended):
            return Outcome(Kind.CONTENDED, delay=random.uniform(*CONTENDED_AGAIN), error=error)  # noqa: S311
        if isinstance(error, Permanent) or attempt >= self.attempts:
            return self._give_up(error, attempt)
        if self.tiers:
            tier = self.tiers[attempt - 1]
            return Outcome(Kind.RETRIED, delay=tier, tier=tier, error=error)
        asked = error.delay if isinstance(error, Temporary) else None
        return Outcome(Kind.RETRIED, delay=self.retries.delay(attempt) if asked is None else asked, error=error)

    def _give_up(self, error: Exception, attempt: int) -> Outcome:
        disposition = _disposition(error)
        if self.exhausted != "block":
            return Outcome(Kind.DEAD_LETTERED, disposition=disposition, error=error)
        delay = max(self.retries.delay(attempt), BLOCKED_AT_LEAST)
        return Outcome(Kind.BLOCKED, delay=delay, disposition=disposition, error=error)


PARKED = "sequence-parked"


def parked() -> Outcome:
    """Return the outcome of an event whose key is parked: it follows the earlier ones into the dead letters."""
    return Outcome(Kind.DEAD_LETTERED, disposition=PARKED, error=Parked())


def _disposition(error: Exception) -> str:
    if isinstance(error, BadRecord):
        return "undecodable"
    if isinstance(error, UnknownType):
        return "unknown-type"
    return "permanent" if isinstance(error, Permanent) else "exhausted"
