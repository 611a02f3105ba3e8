"""`uv run demo`: every check holds, and whatever ends it, nothing is left."""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
DEMO = [sys.executable, "-m", "workbench.demo"]


@pytest.fixture(scope="module")
async def told(broker, tmp_path_factory):
    """Run the demo once; `broker` has resolved the jars, so this run is a warm one."""
    facts = tmp_path_factory.mktemp("demo") / "facts.json"
    process = await asyncio.create_subprocess_exec(*DEMO, "--json", facts, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode, output.decode(), json.loads(facts.read_text())


def test_every_check_holds(told):
    code, output, facts = told
    assert [check for check in facts["checks"] if not check["ok"]] == []
    assert code == 0, output


def test_the_facts_are_those_of_the_run(told):
    _, output, facts = told
    assert set(facts) == {"checks", "accepted", "mails", "dead_lettered", "redriven", "trace", "seconds"}
    assert (facts["accepted"], facts["mails"], facts["dead_lettered"], facts["redriven"]) == (9, 9, 2, 1)
    assert all(set(check) == {"name", "ok", "detail"} for check in facts["checks"])
    assert f"{len(facts['checks'])} of {len(facts['checks'])} checks hold" in output


def flat(node, depth=0):
    yield node["name"], node["service"], node["via"], depth
    for child in node["children"]:
        yield from flat(child, depth + 1)


def test_the_trace_crosses_every_service_and_hop(told):
    spans = list(flat(told[2]["trace"]))
    assert spans[0][:2] == ("POST /users", "accounts-api")
    assert {"accounts-api", "accounts-relay", "mailer", "analytics", "profile-cache"} <= {
        service for _, service, _, _ in spans
    }
    attempts = [depth for name, service, _, depth in spans if (name, service) == ("process user-events", "mailer")]
    assert attempts == sorted(set(attempts)), "each attempt hangs below the one before it"
    assert len(attempts) == 3
    order = [name for name, *_ in spans]
    hops = [
        "create user-events",
        "send user-events.mailer.dlq",
        "redrive user-events.mailer.dlq",
        "process user-events.mailer.redrive",
    ]
    assert [order.index(hop) for hop in hops] == sorted(order.index(hop) for hop in hops)


def test_the_readme_shows_what_the_demo_says(told):
    shown = [
        line.strip().removeprefix("✓ ").split(" (")[0]
        for line in README.read_text().splitlines()
        if line.strip().startswith("✓")
    ]
    assert shown
    assert set(shown) <= {check["name"] for check in told[2]["checks"]}


@pytest.fixture
def place():
    """Return a temporary directory that PostgreSQL's user may enter; pytest's own are closed."""
    path = Path(tempfile.mkdtemp(prefix="demo-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize(
    ("sent", "moment"),
    [
        (signal.SIGINT, "starting Kafka"),
        (signal.SIGINT, "starting six services"),
        (signal.SIGTERM, "everything is ready"),
        (signal.SIGINT, "retried, then dead-lettered"),
        (signal.SIGKILL, "everything is ready"),
    ],
)
async def test_a_signal_at_any_moment_leaves_no_process_and_no_file(broker, sent, moment, place):
    environment = os.environ | {"TMPDIR": str(place), "PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(*DEMO, stdout=asyncio.subprocess.PIPE, env=environment)
    async with asyncio.timeout(60):
        while moment.encode() not in (line := await process.stdout.readline()):
            assert line, "it ended before that moment"
    process.send_signal(sent)
    rest, _ = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 130, signal.SIGKILL: -9}[sent], rest.decode()
    deadline = asyncio.get_running_loop().time() + 20
    while (left := (children_of(place), [path.name for path in place.iterdir()])) != ([], []):
        assert asyncio.get_running_loop().time() < deadline, left
        await asyncio.sleep(0.1)


def children_of(directory):
    """Return processes whose environment or command names the run's own temporary directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(directory).encode() in words and int(entry.name) != os.getpid():
            found.append(entry.name)
    return found
