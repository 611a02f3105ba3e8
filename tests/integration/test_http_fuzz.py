"""The OpenAPI documents tell the truth: a fuzzer that believes them finds nothing."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from eventing.migrate import migrate
from workbench.home import Home
from workbench.ports import free_port

FUZZER = Path(sys.executable).parent / "schemathesis"


@pytest.fixture
async def serving(home: Home, database, valkey):
    """Start a service's API as a process of its own; returns its URL."""
    started = []

    async def serve(service):
        url, port = await database(), free_port()
        await migrate(url, service)
        known = {"EVENTING_DATABASE_URL": url, "EVENTING_CACHE_URL": valkey.url, "EVENTING_HTTP_PORT": str(port)}
        argv = [sys.executable, "-m", "eventing.cli", "serve", f"{service}.api"]
        process = await home.spawn(f"fuzzed-{service}", argv, env=known)
        started.append(process)
        await process.says("api_started", 30)
        return f"http://127.0.0.1:{port}", process

    yield serve
    for process in started:
        await process.stop()


# A deleted user is read from the cache until the event of the deletion comes; test_accounts_reads.py shows that.
@pytest.mark.parametrize(("service", "unless"), [("accounts", "use_after_free"), ("analytics", None)])
async def test_a_fuzzer_finds_nothing(serving, service, unless, tmp_path):
    url, process = await serving(service)
    fuzzing = await asyncio.create_subprocess_exec(
        FUZZER, "run", f"{url}/openapi.json", "--checks", "all", "--max-examples", "40", "--seed", "1",
        "--exclude-path", "/stats/stream", "--request-timeout", "5", "--no-color",
        "--generation-database", "none", "--suppress-health-check", "all",
        *(["--exclude-checks", unless] if unless else []),
        env=os.environ | {"SCHEMATHESIS_HOOKS": "fuzz_hooks", "PYTHONPATH": str(Path(__file__).parent)},
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(fuzzing.communicate(), 120)
    assert fuzzing.returncode == 0, said.decode()[-6000:]
    assert "request_failed" not in process.tail(10_000)
