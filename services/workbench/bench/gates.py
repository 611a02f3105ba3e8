"""What our figures have to reach beside those of the peers, in the same run. Recorded figures never gate."""

from collections.abc import Iterable
from dataclasses import dataclass

from workbench.bench.figure import Figure
from workbench.bench.shapes import ACK, ACK_FIRST, BARE, CEILING, CONCURRENCY, OURS, PARALLEL, SHAPES, TRACED

RSS_MIB = 90.0
RATIOS = (  # shape, runner, peer, how many times its rate at least, in words
    ("5ms", OURS, ACK, 10.0, "≥ 10 times FastStream ACK"),
    ("5ms", OURS, ACK_FIRST, 2.0, "≥ twice FastStream ACK_FIRST, which loses and reorders"),
    ("5ms", OURS, PARALLEL, 3.0, "≥ 3 times Parallel Consumer"),
    ("0-5ms", OURS, PARALLEL, 3.0, "≥ 3 times Parallel Consumer"),
    ("noop", OURS, CEILING, 0.5, "≥ 0.5 of getmany and validation, with metrics"),
    ("noop", TRACED, CEILING, 0.3, "≥ 0.3 of it, with metrics and 5 % of the traces"),
    ("db", OURS, BARE, 0.8, "≥ 0.8 of the bare loop"),
    ("db-batch", OURS, BARE, 0.5, "≥ 0.5 of the bare loop"),
)


@dataclass(frozen=True)
class Gate:
    """A figure and its limit. `found` is None when it was not measured; `most` when the limit is a ceiling."""

    shape: str
    name: str
    limit: float
    found: float | None
    most: bool = False

    @property
    def missed(self) -> bool:
        """True when it was measured and is on the wrong side."""
        return self.found is not None and (self.found > self.limit if self.most else self.found < self.limit)

    @property
    def verdict(self) -> str:
        """Say `met`, `missed by …` or `not run`."""
        if self.found is None:
            return "not run"
        if not self.missed:
            return "met"
        return f"missed by {abs(self.found - self.limit):.3g}"


def evaluate(found: Iterable[Figure]) -> list[Gate]:
    """Return every gate with what was found."""
    known = {(figure.shape, figure.runner): figure for figure in found}
    ours = [figure for figure in known.values() if figure.runner in (OURS, TRACED)]
    busy = [figure for figure in ours if figure.shape != "idle"]
    plain = [figure for figure in busy if figure.runner == OURS]  # the exporter's libraries are the tracer's choice
    return [
        *(_ratio(known, *row) for row in RATIOS),
        _ideal(known),
        Gate("all", "no order violation", 0, _sum(busy), most=True),
        Gate("all", f"≤ {RSS_MIB:g} MiB at work", RSS_MIB, _most(plain), most=True),
        Gate("idle", f"≤ {RSS_MIB:g} MiB", RSS_MIB, _most(f for f in ours if f.shape == "idle"), most=True),
    ]


def _ratio(known: dict[tuple[str, str], Figure], shape: str, runner: str, peer: str, limit: float, name: str) -> Gate:
    mine, theirs = known.get((shape, runner)), known.get((shape, peer))
    return Gate(shape, name, limit, mine.rate / theirs.rate if mine and theirs else None)


def _ideal(known: dict[tuple[str, str], Figure]) -> Gate:
    figure = known.get(("50ms", OURS))
    ideal = CONCURRENCY / SHAPES["50ms"].pause[0]  # records a second, were there nothing but handlers
    return Gate("50ms", "≥ 0.9 of concurrency ÷ handler time", 0.9, figure.rate / ideal if figure else None)


def _sum(found: Iterable[Figure]) -> float | None:
    violations = [figure.order_violations for figure in found]
    return sum(violations) if violations else None


def _most(found: Iterable[Figure]) -> float | None:
    return max((figure.rss_mib for figure in found), default=None)
