"""The page about the consumer: its code runs, and what it names exists."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

import eventing.cli
from eventing import Consumer, metrics
from eventing.errors import Misconfigured
from eventing.settings import Settings

PAGE = (Path(__file__).parents[2] / "services/eventing/README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=["batch", "harness"])
def test_its_code_runs_and_its_tests_pass(code):
    module = {}
    exec(compile(code, "README.md", "exec"), module)
    for name, found in module.items():
        if name.startswith("test_"):
            found()
    assert isinstance(module["consumer"], Consumer)


def test_its_settings_commands_and_metrics_exist():
    assert {name.removeprefix("EVENTING_").lower() for name in re.findall(r"EVENTING_[A-Z_]+", PAGE)} <= {
        *Settings.model_fields
    }
    commands = get_command(eventing.cli.app).commands["dlq"].commands
    assert set(re.findall(r"eventing dlq (\w+)", PAGE)) <= set(commands)
    assert metrics.RESTING._name == "consumer_blocked_lanes"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tiers": (60,)}, "choose ordering='none' or no tiers"),
        ({"ordering": "none", "exhausted": "park_key"}, "no key to park_key"),
        ({"exhausted": "drop"}, "choose one of skip, block, park_key"),
        ({"ordering": "none", "tiers": (60, 10)}, "each longer than the one before"),
    ],
)
def test_choices_that_contradict_each_other_are_refused_with_the_remedy(options, words):
    with pytest.raises(Misconfigured, match=words):
        Consumer("g", **options)
