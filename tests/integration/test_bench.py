"""`uv run bench`: a small run on the real broker."""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from workbench.guardian import MARK

BENCH = [sys.executable, "-c", "from workbench.bench import main; main()", "consumer"]
QUICK = ("--quick", "--shape", "noop", "--runner", "evenkeel")


async def test_a_quick_run_writes_the_promised_figures_and_a_picture(broker, tmp_path):
    figures, picture = tmp_path / "figures.json", tmp_path / "picture.svg"
    process = await asyncio.create_subprocess_exec(
        *BENCH, *QUICK, "--json", figures, "--plot", picture, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, output.decode()
    (figure,) = json.loads(figures.read_text())
    assert {"shape", "runner", "rate", "order_violations", "rss_mib"} <= set(figure)
    assert (figure["shape"], figure["runner"], figure["order_violations"]) == ("noop", "evenkeel", 0)
    assert figure["records"] == 20_000
    assert figure["rate"] > 0
    assert figure["rss_mib"] > 10
    assert f"{figure['rate']:,.0f}" in picture.read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--shape", "nop"), "no shape nop"),
        (("--runner", "kafka"), "no runner kafka"),
        (("--runs", "0"), "runs"),
        (("--json", "/nowhere/figures.json"), "cannot be written"),
    ],
)
async def test_a_wrong_flag_is_refused_with_what_there_is(arguments, told):
    process = await asyncio.create_subprocess_exec(*BENCH, *arguments, stderr=asyncio.subprocess.PIPE)
    _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert told in said.decode()


@pytest.fixture
def place():
    path = Path(tempfile.mkdtemp(prefix="bench-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


async def test_ctrl_c_leaves_no_process_and_no_file(broker, place):
    environment = os.environ | {"TMPDIR": str(place), "PYTHONUNBUFFERED": "1"}
    small = ("--shape", "50ms", "--runner", "aiokafka-serial", "--runs", "100")
    process = await asyncio.create_subprocess_exec(*BENCH, *small, stdout=asyncio.subprocess.PIPE, env=environment)
    try:
        async with asyncio.timeout(100):
            while b"1 of 100" not in (line := await process.stdout.readline()):
                assert line, "it ended before its first run"
        process.send_signal(signal.SIGINT)
        rest, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()  # its guardian ends what it started
            await process.wait()
    assert process.returncode == 130, rest.decode()
    assert "nothing is left running" in rest.decode()
    assert [path.name for path in place.iterdir()] == []
    assert left_of(place) == []


def left_of(place):
    """Return the processes whose home was below `place`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # ended, or not ours
            if f"{MARK}={place}".encode() in entry.read_bytes():
                found.append(entry.parent.name)
    return found


async def test_a_quick_run_of_the_relay_writes_rates_and_latency(broker, tmp_path):
    figures = tmp_path / "figures.json"
    argv = (*BENCH[:-1], "relay", "--quick", "--json", figures)
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), 200)
    assert process.returncode == 0, output.decode()
    found = json.loads(figures.read_text())
    assert set(found["rates"]) == {"one relay", "four relays", "one relay, one key", "aiokafka's producer"}
    assert all(rate > 0 for rates in found["rates"].values() for rate in rates)
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
    assert found["latency_ms"]["events"] == 1_500
