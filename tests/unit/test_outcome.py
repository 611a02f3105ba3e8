"""The failure ladder, decided without a broker."""

import pytest
from tenacity import wait_fixed

from eventing.errors import BadRecord, Overload, Permanent, Temporary, UnknownType
from eventing.outcome import Kind, Retries, judge

RETRIES = Retries(attempts=3, wait=wait_fixed(7))


@pytest.mark.parametrize(
    ("error", "disposition"),
    [(Permanent("no"), "permanent"), (BadRecord("no"), "undecodable"), (UnknownType("no"), "unknown-type")],
)
def test_what_can_never_work_is_dead_lettered_at_the_first_attempt(error, disposition):
    outcome = judge(error, 1, RETRIES)
    assert (outcome.kind, outcome.disposition, outcome.error) == (Kind.DEAD_LETTERED, disposition, error)


@pytest.mark.parametrize("error", [Temporary("busy"), ValueError("a bug")])
def test_what_may_work_is_tried_again_until_the_attempts_are_used_up(error):
    kinds = [judge(error, attempt, RETRIES).kind for attempt in (1, 2, 3)]
    assert kinds == [Kind.RETRIED, Kind.RETRIED, Kind.DEAD_LETTERED]
    assert judge(error, 3, RETRIES).disposition == "exhausted"


def test_the_wait_comes_from_the_strategy_unless_the_handler_names_one():
    assert judge(Temporary(), 1, RETRIES).delay == 7
    assert judge(Temporary(delay=0.5), 1, RETRIES).delay == 0.5


def test_an_overload_counts_no_attempt():
    assert judge(Overload("down"), 99, RETRIES).kind is Kind.OVERLOADED


def test_the_default_wait_grows_and_is_bounded():
    assert all(0 <= Retries().delay(attempt) <= 60 for attempt in range(1, 50))
