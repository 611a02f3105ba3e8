"""Schedules that once broke the runtime, as small as they could be made."""

import pytest
from tests.simulation.explorer import quiet
from tests.simulation.schedule import Do, Pass, Schedule, Send
from tests.simulation.world import execute

from eventing.testing import Trouble


@pytest.fixture(autouse=True)
def no_logs():
    quiet()


def holds(schedule: Schedule) -> bool:
    broken, world = execute(schedule)
    assert broken is None, "\n".join([broken, *world.journal.lines[-60:]])
    return True


def test_an_unreadable_record_alone_in_its_partition_is_dead_lettered_at_once_and_nothing_spins():
    assert holds(Schedule(mode="tiers", steps=(Send(b"b", 0, flaw="spoiled"),)))


def test_a_partition_with_an_unreadable_record_before_a_gap_is_polled_with_the_others_again():
    assert holds(Schedule(mode="tiers", steps=(Send(b"a", 1, flaw="spoiled"), Do("gap", 5))))


def test_the_breaker_lets_a_probe_through_when_its_time_has_come_although_nothing_else_happens():
    assert holds(Schedule(row=3, steps=(Send(b"a", 0, flaw="null"),)))


def test_the_gate_lets_an_attempt_through_when_its_time_has_come_although_nothing_else_happens():
    assert holds(Schedule(mode="none", members=3, steps=(Pass(0.5), Send(b"b", 0, overloads=2))))


def test_a_process_survives_that_its_client_can_neither_start_nor_stop():
    broken, world = execute(Schedule(troubles=(Trouble("start", 1, "fail"), Trouble("stop", 1, "time_out"))))
    assert broken is None
    assert len(world.harness.members) == 1


def test_a_redrive_brings_every_event_of_a_parked_key_back_to_a_batch_handler_not_only_the_first():
    key = [Send(b"b", 0, ("permanent",)), *(Send(b"b", 0) for _ in range(5))]
    assert holds(Schedule(mode="batch_park_key", max_records=12, steps=tuple(key)))
