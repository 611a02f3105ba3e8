"""A schedule: what happens to a consumer group, in which order, and what goes wrong meanwhile. Drawn from a seed."""

import random
from dataclasses import dataclass, field

from eventing.testing.faults import POINTS, Trouble, draw

MODES = ("skip", "block", "park_key", "none", "tiers", "batch_skip", "batch_block", "batch_park_key", "batch_none")
SIM_POINTS = (*POINTS, "handle", "fence", "fenced")
FAILURES = ("temporary", "temporary", "soon", "value", "value", "permanent", "slow_temporary", "stall_permanent")
WORDS = ("", "turn", "slow", "stall", *FAILURES)  # what an attempt may come to
FLAWS = ("null", "body", "header", "spoiled")
KEYS = (b"a", b"a", b"b", b"c", b"", None)


@dataclass(frozen=True)
class Send:
    """Write a record; `words` says what its attempts come to, `heals` after how many redrives it succeeds."""

    key: bytes | None
    partition: int
    words: tuple[str, ...] = ()
    overloads: int = 0
    heals: int = 1
    flaw: str = ""  # null, body, header or spoiled: what makes it unreadable


@dataclass(frozen=True)
class Do:
    """Do something else: gap, expire, join, leave, crash, evict, rebalance, redrive, turns; `what` of which depends."""

    word: str
    what: int = 0


@dataclass(frozen=True)
class Pass:
    """Let time pass."""

    seconds: float


Step = Send | Do | Pass


@dataclass(frozen=True)
class Schedule:
    """Everything that decides what happens; the same schedule does the same every time."""

    mode: str = "skip"
    members: int = 1
    partitions: int = 2
    concurrency: int = 3
    max_records: int = 4
    max_bytes: int = 1 << 20
    attempts: int = 3
    row: int = 1000  # of dead letters that opens the breaker
    hasty: bool = False  # dead letters are sent back while the troubles last
    steps: tuple[Step, ...] = ()
    troubles: tuple[Trouble, ...] = field(default=())

    @property
    def batch(self) -> bool:
        """True when the handler takes many events."""
        return self.mode.startswith("batch_")

    @property
    def exhausted(self) -> str:
        """What becomes of the exhausted."""
        choice = self.mode.removeprefix("batch_")
        return choice if choice in ("block", "park_key") else "skip"

    @property
    def ordered(self) -> bool:
        """True when the events of a key keep their order."""
        return self.mode.removeprefix("batch_") not in ("none", "tiers")

    @property
    def polite(self) -> bool:
        """True when nobody dies and nothing fails but handlers: then not one attempt may be forgotten."""
        rude = any(trouble.kind != "wait" for trouble in self.troubles)
        return not rude and not any(isinstance(s, Do) and s.word in ("crash", "evict", "expire") for s in self.steps)


def drawn(seed: int) -> Schedule:
    """Return the schedule of a seed."""
    source = random.Random(seed)
    mode = source.choice(MODES)
    block = mode.endswith("block")
    partitions = source.choice((1, 2, 2, 3))
    points = tuple(p for p in SIM_POINTS if mode.endswith("park_key") or not p.startswith("fence"))
    steps = [_step(source, partitions, block=block) for _ in range(source.randint(5, 16))]
    return Schedule(
        mode=mode,
        members=source.choice((1, 1, 2, 2, 3)),
        partitions=partitions,
        concurrency=source.randint(2, 5),
        max_records=source.choice((2, 4, 6, 12)),
        max_bytes=source.choice((700, 1 << 20, 1 << 20)),
        attempts=source.randint(2, 3),
        row=source.choice((1000,) * 7 + (3,)),
        hasty=source.random() < 0.3,
        steps=tuple(step for some in steps for step in some),
        troubles=tuple(_trouble(source, points) for _ in range(source.choice((0, 0, 1, 1, 2, 3)))),
    )


def _trouble(source: random.Random, points: tuple[str, ...]) -> Trouble:
    trouble = draw(source, points)
    if trouble.point == "handle" and trouble.kind in ("fail", "time_out"):
        return Trouble("handle", trouble.nth, source.choice(("crash", "evict", "wait")))
    return trouble


def _step(source: random.Random, partitions: int, *, block: bool) -> list[Step]:
    kind = source.choices(("send", "pass", "do", "turns"), (8, 4, 4, 2))[0]
    if kind == "send":
        return [_send(source, partitions, block=block) for _ in range(source.choice((1, 1, 2, 3, 5)))]
    if kind == "pass":
        return [Pass(source.choice((0.0, 0.01, 0.1, 0.5, 1.1)))]
    if kind == "turns":
        return [Do("turns", source.randint(1, 12))]
    words = ("gap", "gap", "expire", "join", "leave", "crash", "evict", "rebalance", "rebalance", "redrive")
    return [Do(source.choice(words), source.randint(0, 5))]


def _send(source: random.Random, partitions: int, *, block: bool) -> Send:
    key = source.choice(KEYS)
    partition = (len(key) if key else source.randint(0, 2)) % partitions if key is None else (sum(key) % partitions)
    flaw = source.choice(FLAWS) if not block and source.random() < 0.1 else ""
    if source.random() < 0.55:
        words: tuple[str, ...] = source.choice(((), (), ("turn",), ("slow",), ("slow",), ("stall",)))
    else:
        words = tuple(source.choice(FAILURES) for _ in range(source.randint(1, 4)))
    overloads = source.choice((0, 0, 0, 0, 0, 0, 0, 1, 1, 2))
    return Send(key, partition, words, overloads, source.choice((1, 1, 2)), flaw)
