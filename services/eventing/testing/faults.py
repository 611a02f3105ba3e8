"""What may go wrong, by script: at a point of a client, at its nth pass, one kind of trouble."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, get_args

from aiokafka.errors import KafkaError

from eventing.errors import SendFailed

if TYPE_CHECKING:
    from eventing.testing.harness import Member

Kind = Literal["crash", "evict", "fail", "time_out", "wait"]

KINDS: tuple[Kind, ...] = get_args(Kind)
POINTS = ("start", "stop", "starts", "started", "poll", "commit", "committed", "revoke", "assign", "send", "sent")
LATEST = {"start": 2, "stop": 2, "starts": 4, "started": 4, "revoke": 4, "assign": 4, "poll": 40}
USUALLY = 8  # pass at which drawn trouble comes at the latest, where `LATEST` does not say
WAIT = 3.0  # seconds


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong when a point is passed for the `nth` time (from 1), by whichever member.

    crash: SIGKILL. evict: the group takes the member for dead, which works on until it finds out. fail, time_out: the
    call raises; at `sent` and `committed` what it asked for has happened. wait: it takes three seconds.
    """

    point: str
    nth: int
    kind: Kind


class Faults:
    """Lets troubles happen: `Harness(consumer, fault=Faults(Trouble("commit", 2, "crash")))`.

    `met` are those that have happened, `passed` counts the passes of each point.
    """

    def __init__(self, *troubles: Trouble) -> None:
        """Describe what is to go wrong."""
        self.met: list[Trouble] = []
        self._waiting = {(trouble.point, trouble.nth): trouble for trouble in troubles}
        self.passed = Counter[str]()

    @classmethod
    def drawn(cls, seed: int, *, troubles: int = 3) -> Self:
        """Return some troubles at random, the same for the same seed."""
        source = random.Random(seed)  # noqa: S311  # no secret
        return cls(*(draw(source) for _ in range(troubles)))

    def stop(self) -> None:
        """Let nothing go wrong from now on."""
        self._waiting.clear()

    async def __call__(self, point: str, who: "Member") -> None:
        """Pass a point; see `Fault`."""
        self.passed[point] += 1
        trouble = self._waiting.pop((point, self.passed[point]), None)
        if trouble is not None:
            self.met.append(trouble)
            await _happen(trouble, who)


def draw(source: random.Random, points: tuple[str, ...] = POINTS, kinds: tuple[Kind, ...] = KINDS) -> Trouble:
    """Return one trouble at random."""
    point = source.choice(points)
    return Trouble(point, source.randint(1, LATEST.get(point, USUALLY)), source.choice(kinds))


async def _happen(trouble: Trouble, who: "Member") -> None:
    match trouble.kind:
        case "crash":
            who.crash()
        case "evict":
            who.evict()
        case "wait":
            await asyncio.sleep(WAIT)
        case "fail" | "time_out":
            raise _error(trouble)


def _error(trouble: Trouble) -> Exception:
    if trouble.point in ("send", "sent"):
        return SendFailed("scripted", reason=trouble.kind)
    return KafkaError("scripted") if trouble.kind == "fail" else TimeoutError("scripted")
