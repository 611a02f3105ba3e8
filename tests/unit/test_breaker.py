"""The breaker before the dead letters: opens on a flood, lets one record probe, closes when that one passes."""

from eventing.breaker import Breaker


def opened(breaker=None):
    breaker = breaker or Breaker(consecutive=3, initial=10, maximum=25)
    assert [breaker.gives_up(n, 0) for n in range(3)] == [True, True, False]
    return breaker


def test_distinct_records_given_up_in_a_row_open_it():
    assert "3 records in a row" in opened().reason


def test_one_record_given_up_again_and_again_does_not():
    breaker = Breaker(consecutive=3)
    assert all(breaker.gives_up("same", 0) for _ in range(20))


def test_a_success_between_starts_the_row_again():
    breaker = Breaker(consecutive=3)
    for n in range(20):
        assert breaker.gives_up(n, 0)
        breaker.passed(f"good-{n}")


def test_a_share_of_the_last_records_opens_it_once_there_are_enough_to_tell():
    breaker = Breaker(share=0.2, window=10, consecutive=99)
    for n in range(9):
        assert breaker.gives_up(n, 0) if n % 3 == 0 else not breaker.passed(n)
    assert breaker.gives_up(9, 0) is False
    assert "4 of the last 10" in breaker.reason


def test_it_admits_nothing_before_its_time_and_then_one():
    breaker = opened()
    assert not breaker.admits(9.9)
    assert breaker.admits(10)
    breaker.started("probe")
    assert not breaker.admits(99)


def test_a_probe_that_passes_closes_it():
    breaker = opened()
    breaker.started("probe")
    assert breaker.passed("another") is False
    assert breaker.passed("probe") is True
    assert breaker.admits(0)
    assert breaker.gives_up("x", 0), "it begins to count anew"


def test_a_probe_that_fails_is_given_up_and_the_next_comes_later():
    breaker = opened()
    breaker.started("probe")
    assert breaker.gives_up("another", 10) is False
    assert breaker.gives_up("probe", 10) is True
    assert (breaker.admits(29.9), breaker.admits(30)) == (False, True)
    breaker.started("next")
    breaker.gives_up("next", 30)
    assert breaker.wait(30) == 25, "bounded"


def test_a_probe_without_an_answer_is_followed_by_another():
    breaker = opened()
    breaker.started("probe")
    breaker.undecided("probe", 10)
    assert (breaker.admits(19.9), breaker.admits(20)) == (False, True)


def test_a_probe_that_never_came_to_a_handler_is_followed_by_another_at_once():
    breaker = opened()
    breaker.started("probe")
    breaker.passed_over("another")
    assert not breaker.admits(10)
    breaker.passed_over("probe")
    assert breaker.admits(10)
    assert breaker.reason
