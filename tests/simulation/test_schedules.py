"""Thousands of schedules of the shipped runtime, and what has to hold in every one of them; see `journal`.

`--schedules N` runs more of them, `--schedule-seed N` begins elsewhere: the same seed is the same schedule.
"""

import sys

import pytest
from tests.simulation.explorer import Tally, explore_everywhere, quiet
from tests.simulation.schedule import drawn
from tests.simulation.shrink import shrunk
from tests.simulation.world import execute

from eventing.testing.faults import KINDS, POINTS

LINES = 60  # of a broken run that are shown
HANDLE = ("crash", "evict", "wait")  # a handler fails by its script instead
EVERY = {
    *((point, kind) for point in (*POINTS, "fence", "fenced") for kind in KINDS),
    *(("handle", kind) for kind in HANDLE),
}


@pytest.mark.timeout(3600)
def test_no_schedule_loses_reorders_or_stops_anything(request, capsys):
    seed, count = request.config.getoption("--schedule-seed"), request.config.getoption("--schedules")
    tally = explore_everywhere(seed, count)
    with capsys.disabled():
        sys.stdout.write(_summary(tally, seed))
    assert not tally.findings, _told(tally.findings)
    if count >= 5000:
        assert set(tally.troubles) >= EVERY, f"never happened: {sorted(EVERY - set(tally.troubles))}"


@pytest.mark.parametrize("seed", [3, 44, 135])
def test_the_same_seed_is_the_same_run(seed):
    quiet()
    runs = [execute(drawn(seed))[1].journal.lines for _ in range(2)]
    assert len(runs[0]) > 20
    assert runs[0] == runs[1]


def _summary(tally: Tally, seed: int) -> str:
    troubles = {f"{point}/{kind}": count for (point, kind), count in tally.troubles.items()}
    return (
        f"\n{tally.schedules} schedules from --schedule-seed {seed}: {_counts(tally.modes)}\n"
        f"points passed: {_counts(tally.points)}\ntroubles met: {_counts(troubles)}\n"
    )


def _counts(counted) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counted.items()))


def _told(findings: dict[int, str]) -> str:
    """Tell about findings: each by its seed, the first as small as it can be made, ready for a regression test."""
    quiet()
    seed, broken = min(findings.items())
    kind = broken[:24]
    smallest = shrunk(drawn(seed), lambda schedule: (execute(schedule)[0] or "").startswith(kind))
    why, world = execute(smallest)
    lines = [line for line in world.journal.lines if " poll " not in line][-LINES:]
    all_of_them = "\n".join(f"--schedule-seed {seed}: {broken}" for seed, broken in sorted(findings.items()))
    return "\n".join([all_of_them, "the first, made small:", repr(smallest), str(why), *lines])
