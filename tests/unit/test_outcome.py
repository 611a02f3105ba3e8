"""The failure ladder, decided without a broker."""

import pytest
from tenacity import wait_fixed

from eventing.errors import BadRecord, Misconfigured, Overload, Permanent, Temporary, UnknownType
from eventing.outcome import Kind, Ladder, Retries

LADDER = Ladder(Retries(attempts=3, wait=wait_fixed(7)))


@pytest.mark.parametrize(
    ("error", "disposition"),
    [(Permanent("no"), "permanent"), (BadRecord("no"), "undecodable"), (UnknownType("no"), "unknown-type")],
)
def test_what_can_never_work_is_dead_lettered_at_the_first_attempt(error, disposition):
    outcome = LADDER.judge(error, 1)
    assert (outcome.kind, outcome.disposition, outcome.error) == (Kind.DEAD_LETTERED, disposition, error)


@pytest.mark.parametrize("error", [Temporary("busy"), ValueError("a bug")])
def test_what_may_work_is_tried_again_until_the_attempts_are_used_up(error):
    kinds = [LADDER.judge(error, attempt).kind for attempt in (1, 2, 3)]
    assert kinds == [Kind.RETRIED, Kind.RETRIED, Kind.DEAD_LETTERED]
    assert LADDER.judge(error, 3).disposition == "exhausted"


def test_the_wait_comes_from_the_strategy_unless_the_handler_names_one():
    assert LADDER.judge(Temporary(), 1).delay == 7
    assert LADDER.judge(Temporary(delay=0.5), 1).delay == 0.5


def test_an_overload_counts_no_attempt():
    assert LADDER.judge(Overload("down"), 99).kind is Kind.OVERLOADED


def test_the_default_wait_grows_and_is_bounded():
    assert all(0 <= Retries().delay(attempt) <= 60 for attempt in range(1, 50))


def test_what_blocks_is_tried_again_however_often_it_failed():
    blocking = Ladder(Retries(attempts=1, wait=wait_fixed(0.1)), exhausted="block")
    for error in (Temporary(), Permanent(), BadRecord()):
        outcome = blocking.judge(error, 99)
        assert (outcome.kind, outcome.final, outcome.leaves) == (Kind.BLOCKED, False, False)
        assert outcome.delay >= 1, "not in a busy loop"


def test_each_retry_topic_is_used_once_in_turn_and_then_the_event_is_given_up():
    tiers = Ladder(tiers=(10, 60))
    first, second, third = (tiers.judge(Temporary(delay=3), attempt) for attempt in (1, 2, 3))
    assert [(o.kind, o.tier, o.delay) for o in (first, second)] == [(Kind.RETRIED, 10, 10), (Kind.RETRIED, 60, 60)]
    assert (third.kind, third.disposition) == (Kind.DEAD_LETTERED, "exhausted")
    assert all(outcome.leaves for outcome in (first, second, third))


@pytest.mark.parametrize("attempts", [0, -1, 1.5])
def test_retries_without_an_attempt_are_refused(attempts):
    with pytest.raises(Misconfigured, match=r"attempts is .*; an event is tried at least once"):
        Retries(attempts)
