"""The README's promises that need no broker."""

import re
from pathlib import Path

from typer.main import get_command

import eventing.cli
from eventing import Consumer

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_its_consumer_is_one():
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    module = {}
    exec(compile(code, "README.md", "exec"), module)
    assert isinstance(module["consumer"], Consumer)
    assert module["consumer"].topics == ["user-events"]
    assert len([line for line in code.splitlines() if line.strip()]) <= 12


def test_its_commands_exist():
    commands = get_command(eventing.cli.app).commands
    assert "consume" in commands
    assert {"list", "show", "redrive", "discard"} <= set(commands["dlq"].commands)


def test_it_fits_two_screens():
    assert len(README.splitlines()) <= 110


def test_ci_runs_its_test_command():
    assert "uv run pytest" in README
    assert "uv run pytest" in (Path(__file__).parents[2] / ".ci" / "run").read_text()
