"""What a run measured, and the figures of several runs together."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from statistics import median


@dataclass(frozen=True)
class Run:
    """One run of one runner: records a second, peak resident memory in MiB, and what went wrong with the order.

    `cpu_us` are microseconds of processor time of its process per record: what is left to compare on a busy machine.
    """

    shape: str
    runner: str
    records: int
    rate: float
    order_violations: int
    duplicates: int
    rss_mib: float
    cpu_us: float = 0.0


@dataclass(frozen=True)
class Figure:
    """All runs of a runner on a shape: medians of rate and processor time, all violations, the highest memory."""

    shape: str
    runner: str
    rate: float
    order_violations: int
    rss_mib: float
    cpu_us: float
    duplicates: int
    records: int
    rates: list[float]


def figures(runs: Iterable[Run]) -> list[Figure]:
    """Return one figure per shape and runner, in the order in which they first ran."""
    runs = list(runs)
    first = {(run.shape, run.runner): at for at, run in reversed(list(enumerate(runs)))}
    ordered = sorted(runs, key=lambda run: first[run.shape, run.runner])
    return [_figure(*key, list(group)) for key, group in groupby(ordered, lambda run: (run.shape, run.runner))]


def _figure(shape: str, runner: str, runs: list[Run]) -> Figure:
    return Figure(
        shape=shape,
        runner=runner,
        rate=round(median(run.rate for run in runs), 1),
        order_violations=sum(run.order_violations for run in runs),
        rss_mib=max(run.rss_mib for run in runs),
        cpu_us=round(median(run.cpu_us for run in runs), 1),
        duplicates=sum(run.duplicates for run in runs),
        records=runs[0].records,
        rates=[round(run.rate, 1) for run in runs],
    )
