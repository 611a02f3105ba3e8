"""`uv run demo`: every check holds, and whatever ends it, nothing is left."""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

README = Path(__file__).parents[2] / "README.md"
DEMO = [sys.executable, "-m", "workbench.demo"]


@pytest.fixture(scope="module")
async def told(broker, tmp_path_factory):
    """Run the demo once; `broker` has resolved the jars, so this run is a warm one."""
    facts = tmp_path_factory.mktemp("demo") / "facts.json"
    process = await asyncio.create_subprocess_exec(*DEMO, "--json", facts, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), 200)
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


class Running:
    """A demo that runs in a temporary directory of its own."""

    def __init__(self, process, place):
        self.process, self._place = process, place

    async def says(self, moment):
        async with asyncio.timeout(120):
            while moment.encode() not in (line := await self.process.stdout.readline()):
                assert line, "it ended before that moment"

    async def until(self, moment):
        """Return the lines before the one with these words."""
        lines = []
        async with asyncio.timeout(30):
            while moment not in (line := (await self.process.stdout.readline()).decode()):
                assert line, "it ended before that moment"
                lines.append(line)
        return [line for line in lines if line.strip()]

    async def ends(self, within=100):
        """Wait until nothing is left of it; returns its exit code and what it said last."""
        rest, _ = await asyncio.wait_for(self.process.communicate(), within)
        deadline = asyncio.get_running_loop().time() + 20
        while (left := (children_of(self._place), [path.name for path in self._place.iterdir()])) != ([], []):
            assert asyncio.get_running_loop().time() < deadline, left
            await asyncio.sleep(0.1)
        return self.process.returncode, rest.decode()


@pytest.fixture
async def run(broker, place):
    """Start a demo; `broker` has resolved the jars."""
    started = []

    async def start(*arguments):
        environment = os.environ | {"TMPDIR": str(place), "PYTHONUNBUFFERED": "1"}
        process = await asyncio.create_subprocess_exec(
            *DEMO, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment
        )
        started.append(process)
        return Running(process, place)

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


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
async def test_a_signal_at_any_moment_leaves_no_process_and_no_file(run, sent, moment):
    demo = await run()
    await demo.says(moment)
    demo.process.send_signal(sent)
    code, rest = await demo.ends()
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 130, signal.SIGKILL: -9}[sent], rest
    assert "Traceback" not in rest


@pytest.mark.parametrize(("times", "moment"), [(2, "starting Kafka"), (2, "everything is ready"), (5, "six services")])
async def test_who_presses_ctrl_c_again_is_not_kept_waiting(run, times, moment):
    demo = await run()
    await demo.says(moment)
    for _ in range(times):
        with suppress(ProcessLookupError):  # it has gone already
            demo.process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.15)  # a finger
    code, rest = await demo.ends()
    assert (code, "Traceback" in rest) == (130, False), rest


async def test_what_is_kept_answers_at_the_printed_addresses_until_ctrl_c(run):
    demo = await run("--keep")
    await demo.says("checks hold")
    kept = dict(line.strip().split(maxsplit=1) for line in await demo.until("Ctrl-C stops it"))
    async with httpx.AsyncClient(timeout=10) as http:
        for name in ("accounts-api", "accounts-relay", "mailer", "analytics", "analytics-api", "profile-cache"):
            assert (await http.get(f"{kept[name]}/readyz")).status_code == 200, name
        body = {"name": "Late", "email": "late@example.com"}
        assert (await http.post(f"{kept['accounts-api']}/users", json=body)).status_code == 201
    assert Path(kept["logs"]).is_dir()
    demo.process.send_signal(signal.SIGINT)
    code, rest = await demo.ends()
    assert (code, "Traceback" in rest) == (130, False), rest


async def test_a_check_that_fails_is_told_and_makes_the_exit_code_1(run, place, tmp_path):
    facts = tmp_path / "facts.json"
    demo = await run("--json", str(facts))
    await demo.says("everything is ready")
    (api,) = (pid for pid in children_of(place) if "accounts.api" in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill(int(api), signal.SIGKILL)
    code, rest = await demo.ends()
    assert (code, "Traceback" in rest) == (1, False), rest
    failed = [check["name"] for check in json.loads(facts.read_text())["checks"] if not check["ok"]]
    assert failed[0] in rest


async def test_a_file_that_cannot_be_written_is_refused_before_anything_starts(run, tmp_path):
    demo = await run("--json", str(tmp_path / "nowhere" / "facts.json"))
    code, said = await demo.ends(10)
    assert code == 2
    assert "cannot be written" in said
    assert "starting" not in said


async def test_a_service_that_does_not_start_is_named_with_its_last_words(run, monkeypatch):
    monkeypatch.setenv("MAILER_WHEN_AMBIGUOUS", "perhaps")
    code, said = await (await run()).ends()
    assert code == 1
    assert "mailer ended with status 2" in said
    assert "\neventing: MAILER_WHEN_AMBIGUOUS: Input should be 'resend' or 'hold'" in said
    assert "Traceback" not in said


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
