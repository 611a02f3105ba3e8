"""Liveness by progress: a consumer that silently stopped is dead, one that waits on purpose is not."""

from dataclasses import replace

import pytest

from eventing.progress import Progress, Sight

IDLE = Sight(now=0, finished=5, behind=0, waits=False, rejoining=False, answers=True)


def watched(sight, seconds=500):
    """Return what is said after seeing the same again and again, with a poll loop that comes round."""
    progress = Progress()
    for now in range(seconds):
        progress.see(replace(sight, now=now))
    return progress.dead(seconds, seconds)


def test_an_idle_consumer_lives():
    assert watched(IDLE) is None


def test_records_that_wait_while_nothing_happens_mean_that_it_is_stuck():
    assert "nothing has happened" in watched(replace(IDLE, behind=7))
    assert watched(replace(IDLE, behind=7), 100) is None, "not at once"


@pytest.mark.parametrize("change", [{"waits": True}, {"behind": None}, {"rejoining": True, "answers": False}])
def test_waiting_on_purpose_and_an_outage_of_kafka_are_no_reason(change):
    assert watched(replace(IDLE, **{"behind": 7} | change)) is None


def test_progress_begins_the_count_anew():
    progress = Progress()
    for now in range(500):
        progress.see(replace(IDLE, now=now, behind=7, finished=now // 100))
    assert progress.dead(500, 500) is None


def test_a_rebalance_that_does_not_end_is_one_when_a_broker_answers():
    assert "rejoining its group" in watched(replace(IDLE, rejoining=True))
    assert watched(replace(IDLE, rejoining=True), 100) is None


def test_a_silent_poll_loop_is_one_unless_the_group_is_being_rebalanced():
    progress = Progress()
    progress.see(IDLE)
    assert "silent for 31 s" in progress.dead(31, 0)
    progress.see(replace(IDLE, rejoining=True, answers=False))
    assert progress.dead(31, 0) is None
