"""What an attempt came to, decided without any I/O: the failure ladder.

`Permanent` → dead letter now; `Temporary` and everything unexpected → again, until the attempts are used up;
`Overload` → again without counting.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from tenacity import RetryCallState, wait_random_exponential
from tenacity.wait import wait_base

from eventing.errors import BadRecord, Overload, Permanent, Temporary, UnknownType


class Kind(StrEnum):
    """How an attempt ended; the label `outcome` of `consumer_events_total`."""

    PROCESSED = "processed"
    DUPLICATE = "duplicate"
    STALE = "stale"
    SKIPPED = "skipped"
    RETRIED = "retried"
    DEAD_LETTERED = "dead_lettered"
    OVERLOADED = "overloaded"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one attempt.

    `delay` is in seconds, for RETRIED. `disposition` says why an event is dead-lettered: undecodable,
    unknown-type, permanent or exhausted. `error` is what the handler raised, if it did.
    """

    kind: Kind
    delay: float = 0.0
    disposition: str = ""
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how far apart an event is tried.

    Args:
        attempts: attempts before the dead letter.
        wait: any wait strategy of tenacity, in seconds; the default is full jitter below a doubling ceiling.
    """

    attempts: int = 5
    wait: wait_base = field(default_factory=lambda: wait_random_exponential(multiplier=0.5, max=60))

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after `attempt` (from 1) has failed."""
        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]  # a wait reads attempt_number alone
        state.attempt_number = attempt
        return float(self.wait(state))


def judge(error: Exception, attempt: int, retries: Retries) -> Outcome:
    """Decide what follows from a failed attempt."""
    if isinstance(error, Permanent):
        return Outcome(Kind.DEAD_LETTERED, disposition=_disposition(error), error=error)
    if isinstance(error, Overload):
        return Outcome(Kind.OVERLOADED, error=error)
    if attempt >= retries.attempts:
        return Outcome(Kind.DEAD_LETTERED, disposition="exhausted", error=error)
    asked = error.delay if isinstance(error, Temporary) else None
    return Outcome(Kind.RETRIED, delay=retries.delay(attempt) if asked is None else asked, error=error)


def _disposition(error: Permanent) -> str:
    if isinstance(error, BadRecord):
        return "undecodable"
    return "unknown-type" if isinstance(error, UnknownType) else "permanent"
