"""The page about the relay: its code is the library's, and what it names exists."""

import inspect
import re
from pathlib import Path

from typer.main import get_command

import eventing.cli
from eventing import metrics
from eventing.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "services/eventing/RELAY.md").read_text()


def test_its_code_compiles_against_the_library():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    module = {}
    exec(compile(code, "RELAY.md", "exec"), module)
    assert inspect.iscoroutinefunction(module["register"])


def test_its_settings_have_the_defaults_it_says():
    rows = re.findall(r"`EVENTING_(\w+)` \|([^|]*)\|", PAGE)
    assert len(rows) == 4
    for name, words in rows:
        default = Settings.model_fields[name.lower()].default
        if number := re.search(r"\((\d+)\)", words):
            assert float(number[1]) == default, name


def test_its_commands_and_their_options_exist():
    commands = get_command(eventing.cli.app).commands["outbox"].commands
    named = set(re.findall(r"`eventing outbox (\w+)", PAGE))
    assert named == set(commands)
    options = {option for command in commands.values() for p in command.params for option in p.opts}
    assert {"--key", "--why", "--topic", "--all"} <= options


def test_its_metrics_and_tables_and_files_exist():
    known = {metric._name for metric in vars(metrics).values() if hasattr(metric, "_name")}
    assert {"outbox_oldest_transaction_seconds", "outbox_blocked_keys"} <= known
    tables = "".join(path.read_text() for path in (ROOT / "services/eventing/migrations/versions").glob("e*.py"))
    for table in re.findall(r"`(eventing\.outbox_\w+)`", PAGE):
        assert f"CREATE TABLE {table} " in tables
    assert (ROOT / "tests/integration/test_relay_chaos.py").exists()
