"""A Hypothesis state machine over the harness: it chooses as it goes, and makes what breaks small by itself.

The explorer runs more schedules in the same time; this one walks where chance would not.
"""

import asyncio
import random
from dataclasses import replace

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.simulation.explorer import quiet
from tests.simulation.schedule import FLAWS, KEYS, MODES, SIM_POINTS, WORDS, Do, Pass, Schedule, Send
from tests.simulation.world import World

from eventing.testing import Trouble, VirtualLoop
from eventing.testing.faults import KINDS

MACHINES = 150
STEPS = 12
FAILS = ("fail", "time_out")  # what a handler does by its script

troubles = st.builds(Trouble, st.sampled_from(SIM_POINTS), st.integers(1, 8), st.sampled_from(KINDS)).filter(
    lambda trouble: trouble.point != "handle" or trouble.kind not in FAILS
)
plans = st.lists(st.sampled_from(WORDS), max_size=4).map(tuple)


class Group(RuleBasedStateMachine):
    """A consumer group under whatever Hypothesis thinks of."""

    def __init__(self) -> None:
        super().__init__()
        random.seed(0)
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.world: World | None = None

    @initialize(
        mode=st.sampled_from(MODES),
        members=st.integers(1, 3),
        limits=st.tuples(st.integers(2, 5), st.sampled_from((2, 6)), st.sampled_from((3, 1000))),
        wrong=st.lists(troubles, max_size=3),
    )
    def begin(self, mode, members, limits, wrong) -> None:
        concurrency, max_records, row = limits
        schedule = Schedule(mode, members, 2, concurrency, max_records, row=row, troubles=tuple(wrong))
        self.runner.run(self._begin(schedule))

    async def _begin(self, schedule: Schedule) -> None:
        self.world = World(schedule)
        await self.world.begin()

    def _do(self, step) -> None:
        self.world.schedule = replace(self.world.schedule, steps=(*self.world.schedule.steps, step))
        self.runner.run(self.world.do(step))

    @rule(key=st.sampled_from(KEYS), partition=st.integers(0, 1), words=plans, overloads=st.integers(0, 1))
    def send(self, key, partition, words, overloads) -> None:
        self._do(Send(key, partition, words, overloads))

    @rule(key=st.sampled_from(KEYS), flaw=st.sampled_from(FLAWS))
    def send_what_cannot_be_read(self, key, flaw) -> None:
        self._do(Send(key, 0, flaw=flaw if self.world.schedule.exhausted != "block" else ""))

    @rule(word=st.sampled_from(("rebalance", "join", "leave", "crash", "evict")), which=st.integers(0, 2))
    def move(self, word, which) -> None:
        self._do(Do(word, which))

    @rule(word=st.sampled_from(("gap", "expire", "redrive")), what=st.integers(0, 3))
    def change(self, word, what) -> None:
        self._do(Do(word, what))

    @rule(seconds=st.sampled_from((0.0, 0.05, 0.5, 1.1)))
    def wait(self, seconds) -> None:
        self._do(Pass(seconds))

    @rule(turns=st.integers(1, 12))
    def turn(self, turns) -> None:
        self._do(Do("turns", turns))

    @invariant()
    def holds_no_more_than_it_may(self) -> None:
        for member in self.world.live if self.world else ():
            self.world.journal.check_memory(member)

    def teardown(self) -> None:
        try:
            if self.world is not None:
                self.runner.run(self.world.end())
        finally:
            self.runner.close()


def test_no_walk_of_the_machine_loses_reorders_or_stops_anything(request):
    quiet()
    chosen = settings(
        max_examples=MACHINES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    machine = seed(request.config.getoption("--schedule-seed"))(Group)
    run_state_machine_as_test(machine, settings=chosen)
