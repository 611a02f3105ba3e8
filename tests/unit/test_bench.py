"""The arithmetic of the benchmarks: what counts as a violation, which run counts, when a gate is missed."""

import json
from dataclasses import replace

import pytest

from workbench.bench.figure import Run, figures
from workbench.bench.gates import evaluate
from workbench.bench.ledger import Ledger
from workbench.bench.plan import interleaved
from workbench.bench.plot import draw
from workbench.bench.shapes import ACK, BARE, CEILING, OURS, SHAPES, TRACED


@pytest.fixture
def ledger(tmp_path):
    return Ledger(records=6, keys=2, result=tmp_path / "result.json")


def play(ledger, *steps):
    """Start (+n) and finish (-n) records, numbered from 1 here so that both signs are there."""
    for step in steps:
        (ledger.started if step > 0 else ledger.finished)(abs(step) - 1)


@pytest.mark.parametrize(
    ("steps", "violations", "duplicates"),
    [
        pytest.param((1, -1, 3, -3, 5, -5), 0, 0, id="a key in order"),
        pytest.param((1, 2, -1, -2, 4, 3), 0, 0, id="two keys side by side"),
        pytest.param((1, 3), 1, 0, id="a record starts while another of its key runs"),
        pytest.param((1, -1, 5, -5, 3), 1, 0, id="a record starts after a later one of its key"),
        pytest.param((1, -1, 1, -1, 3), 0, 1, id="a record comes again before the next"),
        pytest.param((1, -1, 3, -3, 1, -1), 0, 1, id="a record comes again after the next"),
        pytest.param((1, 1), 1, 1, id="a record comes again while it runs"),
    ],
)
def test_order_violations_and_duplicates_are_counted(ledger, steps, violations, duplicates):
    play(ledger, *steps)
    assert (ledger.violations, ledger.duplicates) == (violations, duplicates)


def test_a_batch_overlaps_other_batches_and_not_itself(ledger):
    ledger.started_together([0, 1, 2, 4])
    assert ledger.violations == 0
    ledger.started_together([3, 5])
    assert ledger.violations == 2, "record 1 of their key still runs"


def test_a_batch_whose_records_are_out_of_order_is_a_violation(ledger):
    ledger.started_together([2, 0])
    assert ledger.violations == 1


def test_the_result_is_written_when_every_record_is_finished_and_not_before(ledger, tmp_path):
    ledger.begin()
    play(ledger, 1, -1, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6)
    assert not (tmp_path / "result.json").exists(), "a duplicate finishes nothing new"
    play(ledger, -6)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["seconds"] > 0
    assert (result["order_violations"], result["duplicates"]) == (0, 1)


def test_a_clock_that_was_stopped_leaves_out_the_bookkeeping(ledger, tmp_path):
    ledger.begin()
    ledger.stop()
    stopped = ledger._ended
    play(ledger, *(step for n in range(1, 7) for step in (n, -n)))
    assert ledger._ended == stopped
    assert (tmp_path / "result.json").exists()


def run(shape, runner, rate, **more):
    return replace(Run(shape, runner, 100, rate, 0, 0, 50.0), **more)


def test_a_figure_is_the_median_rate_with_every_violation_and_the_highest_memory():
    runs = [run("noop", OURS, rate) for rate in (5.0, 1.0, 100.0)]
    runs[1] = replace(runs[1], order_violations=2, duplicates=1, rss_mib=70.0)
    runs[2] = replace(runs[2], order_violations=3, duplicates=4)
    (figure,) = figures(runs)
    assert (figure.rate, figure.rates) == (5.0, [5.0, 1.0, 100.0])
    assert (figure.order_violations, figure.duplicates, figure.rss_mib) == (5, 5, 70.0)


def test_interleaved_runs_make_one_figure_per_runner_in_the_order_of_the_first_turn():
    found = figures([run("noop", name, 1.0) for name in ("b", "a", "a", "b")])
    assert [(figure.runner, len(figure.rates)) for figure in found] == [("b", 2), ("a", 2)]


def test_turns_go_a_b_b_a():
    assert list(interleaved(["a", "b"], 3)) == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]


def verdicts(*runs):
    return {(gate.shape, gate.name): gate.verdict for gate in evaluate(figures(runs))}


@pytest.mark.parametrize(
    ("shape", "runner", "peer", "limit"),
    [("5ms", OURS, ACK, 10), ("noop", OURS, CEILING, 0.5), ("noop", TRACED, CEILING, 0.3), ("db", OURS, BARE, 0.8)],
)
def test_a_ratio_is_met_at_its_limit_and_missed_below(shape, runner, peer, limit):
    def missed(rate):
        gates = evaluate(figures([run(shape, runner, rate), run(shape, peer, 1000.0)]))
        return [gate.name for gate in gates if gate.missed and gate.shape == shape]

    assert missed(limit * 1000.0) == []
    assert len(missed(limit * 1000.0 - 1)) == 1


def test_a_gate_says_by_how_much_it_is_missed():
    found = verdicts(run("db", OURS, 600.0), run("db", BARE, 1000.0))
    assert found["db", "≥ 0.8 of the bare loop"] == "missed by 0.2"


def test_a_gate_without_its_peer_reads_not_run():
    found = verdicts(run("5ms", OURS, 1e6))
    assert found["5ms", "≥ 3 times Parallel Consumer"] == "not run"
    assert set(verdicts().values()) == {"not run"}


def test_the_ideal_is_concurrency_divided_by_the_handlers_time():
    name = ("50ms", "≥ 0.9 of concurrency ÷ handler time")
    assert verdicts(run("50ms", OURS, 1800.0))[name] == "met"
    assert verdicts(run("50ms", OURS, 1700.0))[name] == "missed by 0.05"


@pytest.mark.parametrize("runner", [OURS, TRACED])
def test_one_violation_of_ours_in_any_run_misses_a_gate_and_those_of_others_do_not(runner):
    clean, spoiled = run("noop", runner, 1.0), run("noop", runner, 1.0, order_violations=1)
    others = run("noop", CEILING, 1.0, order_violations=9)
    assert verdicts(clean, spoiled, clean, others)["all", "no order violation"] == "missed by 1"
    assert verdicts(clean, others)["all", "no order violation"] == "met"


def test_memory_is_gated_at_its_highest_idle_and_at_work_apart():
    found = verdicts(run("noop", OURS, 1.0, rss_mib=91.0), run("idle", OURS, 0.0, rss_mib=60.0))
    assert found["all", "≤ 90 MiB at work"] == "missed by 1"
    assert found["idle", "≤ 90 MiB"] == "met"


def test_the_plot_has_a_bar_with_its_rate_for_each_runner(tmp_path):
    draw(figures([run("noop", OURS, 12_345.0), run("noop", CEILING, 98_765.0), run("idle", OURS, 0.0)]), tmp_path / "p")
    drawn = (tmp_path / "p").read_text()
    assert "12,345" in drawn
    assert "98,765" in drawn
    assert SHAPES["noop"].title in drawn
    assert SHAPES["idle"].title not in drawn
