"""The gate: closed while a dependency is down, one attempt tries for all."""

from eventing.gate import Gate


def test_an_overload_closes_it_for_everybody():
    gate = Gate(initial=1)
    assert gate.overloaded("smtp is down", 100.0) == 1
    assert not gate.admits(100.5)
    assert gate.reason == "smtp is down"


def test_one_attempt_tries_after_the_delay():
    gate = Gate(initial=1)
    gate.overloaded("down", 100.0)
    assert gate.admits(101.0)
    gate.started()
    assert not gate.admits(101.0)


def test_a_failed_try_doubles_the_delay_up_to_the_maximum():
    gate, now, delays = Gate(initial=1, maximum=3), 0.0, []
    for _ in range(4):
        delays.append(gate.overloaded("down", now))
        now += delays[-1]
        gate.started()
    assert delays == [1, 2, 3, 3]


def test_attempts_that_fail_together_count_once():
    gate = Gate(initial=1)
    assert [gate.overloaded("down", 0.0) for _ in range(3)] == [1, 1, 1]


def test_a_success_opens_it():
    gate = Gate()
    gate.overloaded("down", 0.0)
    gate.passed()
    assert gate.admits(0.0)
    assert gate.reason is None


def test_a_try_that_told_nothing_lets_another_try():
    gate = Gate(initial=1)
    gate.overloaded("down", 0.0)
    gate.started()
    gate.undecided()
    assert gate.admits(1.0)
