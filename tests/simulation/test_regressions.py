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


STALE_HALVES = {
    "elsewhere": Schedule(
        mode="batch_none",
        members=2,
        steps=(Send(b"b", 0, ("stall",)), Send(b"a", 1, ("value", "stall_permanent"))),
        troubles=(Trouble("started", 1, "evict"),),
    ),
    "held up": Schedule(
        mode="batch_none",
        members=2,
        max_records=2,
        steps=(
            Send(b"a", 1, ("temporary", "stall_permanent")),
            Send(b"", 0, overloads=2),
            Send(None, 0),
            Send(b"", 0, ("stall_permanent",)),
        ),
        troubles=(Trouble("start", 2, "wait"),),
    ),
    "parked": Schedule(
        mode="batch_park_key",
        members=2,
        max_records=12,
        steps=(
            Send(b"b", 0, ("slow",)),
            Send(b"a", 1, ("soon",)),
            Send(b"c", 1, ("value",)),
            Send(None, 1),
            Send(b"a", 1),
            Pass(1.1),
        ),
        troubles=(Trouble("committed", 1, "evict"), Trouble("start", 2, "fail"), Trouble("handle", 5, "wait")),
    ),
}


@pytest.mark.parametrize("case", STALE_HALVES)
def test_a_batch_that_outlives_its_drain_is_halved_no_further(case):
    assert holds(STALE_HALVES[case])


def test_a_parked_key_whose_first_record_expired_before_its_letter_was_written_waits_for_nobody():
    steps = (
        Send(None, 0),
        Send(b"", 0, ("permanent",)),
        Pass(1.1),
        Send(None, 0),
        Send(b"a", 0),
        Send(b"", 0),
        Do("expire", 2),
    )
    assert holds(Schedule(mode="park_key", steps=steps, troubles=(Trouble("send", 1, "crash"),)))


def test_what_was_queued_before_another_partition_failed_to_be_polled_runs():
    steps = (Send(None, 1), Pass(1.1), Send(b"c", 0, ("slow",)), Send(b"", 0), Send(None, 0, flaw="spoiled"))
    assert holds(Schedule(mode="none", partitions=3, steps=steps, troubles=(Trouble("poll", 24, "fail"),)))


def test_a_dead_letter_that_is_late_for_its_drain_is_waited_for():
    steps = (Send(b"b", 2), Send(b"b", 2), Do("turns", 6), Do("evict"), Send(b"b", 2, flaw="spoiled"))
    wait = Trouble("send", 1, "wait")
    assert holds(Schedule(mode="park_key", members=3, partitions=3, max_records=12, steps=steps, troubles=(wait,)))
