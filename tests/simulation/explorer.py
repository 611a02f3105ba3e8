"""Runs many schedules, in as many processes as there are cores, and counts what they met."""

import logging
import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import structlog
from tests.simulation.schedule import drawn
from tests.simulation.world import execute

CHUNK = 100  # schedules a process takes at once
ENOUGH = 5  # findings after which a process stops looking


@dataclass
class Tally:
    """What some schedules came to."""

    schedules: int = 0
    modes: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)  # that were passed
    troubles: Counter[tuple[str, str]] = field(default_factory=Counter)  # that happened: point and kind
    findings: dict[int, str] = field(default_factory=dict)  # by seed

    def add(self, other: "Tally") -> None:
        """Take in what others came to."""
        self.schedules += other.schedules
        for mine, more in ((self.modes, other.modes), (self.points, other.points), (self.troubles, other.troubles)):
            mine.update(more)
        self.findings |= other.findings


def explore(first: int, count: int) -> Tally:
    """Run the schedules of `count` seeds from `first` on, here."""
    tally = Tally()
    for seed in range(first, first + count):
        schedule = drawn(seed)
        broken, world = execute(schedule)
        tally.schedules += 1
        tally.modes[schedule.mode] += 1
        tally.points.update(world.faults.passed)
        tally.troubles.update((trouble.point, trouble.kind) for trouble in world.faults.met)
        if broken is not None:
            tally.findings[seed] = broken
            if len(tally.findings) >= ENOUGH:
                break
    return tally


def explore_everywhere(first: int, count: int) -> Tally:
    """Run them on every core."""
    total = Tally()
    chunks = [(at, min(CHUNK, first + count - at)) for at in range(first, first + count, CHUNK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=quiet) as pool:
        for tally in pool.map(explore, *zip(*chunks, strict=True)):
            total.add(tally)
            if len(total.findings) >= ENOUGH:
                pool.shutdown(cancel_futures=True)
                break
    return total


def quiet() -> None:
    """Log nothing: what goes wrong here is meant to."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
