"""However a run ends, no process and no file of it stays."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from workbench.guardian import MARK, census, family
from workbench.home import Home
from workbench.process import Process

# A test run in the background of a shell has its children ignore it.
LISTEN_TO_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"

TWO_CHILDREN = """
import asyncio
from workbench.home import Home
from workbench.postgres import Postgres

async def main():
    async with Home.open() as home:
        await home.spawn("sleeper", ["sleep", "600"])
        await Postgres.start(home)
        print("up", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
STACK = "from workbench.stack import main; main()"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(600)"


class Program:
    """A run in a process of its own, with a temporary directory and a cache of its own."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path) -> None:
        self.process = process
        self.directory = directory
        self.relatives: set[int] = set()

    async def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait for something about the program that can only be watched."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)

    async def end(self, number: signal.Signals) -> None:
        """Send it a signal, having noted every process it started so far."""
        self.relatives = family(self.process.pid)
        self.process.send_signal(number)
        await self.process.wait()

    async def leaves_nothing(self) -> None:
        """Assert that its processes and files disappear, in 15 s."""
        with contextlib.suppress(TimeoutError):
            await self.until(lambda: not self._left(), seconds=15)
        assert self._left() == set()

    def _left(self) -> set[object]:
        return self.relatives & set(census()) | set(self.directory.iterdir())


async def ended(pid: int) -> None:
    async with asyncio.timeout(5):
        while pid in census():
            await asyncio.sleep(0.01)


@pytest.fixture
async def program() -> AsyncIterator[Callable]:
    """Starts Python code as a run: `program(code, **environment)`."""
    started: list[Program] = []
    # Not pytest's tmp_path: only its owner may enter that one, and PostgreSQL runs as another user.
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)

        async def start(code: str, **environment: str) -> Program:
            process = await create_subprocess_exec(
                *(sys.executable, "-c", LISTEN_TO_CTRL_C + code),
                stdin=DEVNULL,
                stdout=PIPE,
                env={**os.environ, "TMPDIR": directory, **environment},
                start_new_session=True,
            )
            started.append(Program(process, Path(directory)))
            return started[-1]

        yield start
        for each in started:
            if each.process.returncode is None:
                await each.end(signal.SIGKILL)
            await each.process.communicate()
            await each.leaves_nothing()


async def test_nothing_is_left_after_a_kill_of_the_run(program):
    run = await program(TWO_CHILDREN)
    assert await run.process.stdout.readline() == b"up\n"
    await run.end(signal.SIGKILL)
    assert len(run.relatives) >= 8  # the run, its guardian, sleep, PostgreSQL with its workers
    await run.leaves_nothing()


@pytest.mark.parametrize("log", ["postgres.log", "valkey.log", "kafka.log"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_nothing_is_left_after_a_signal_during_the_start(program, log: str, number: signal.Signals):
    run = await program(STACK)
    await run.until(lambda: any(run.directory.glob(f"*/{log}")))
    await run.end(number)
    await run.leaves_nothing()


async def test_ctrl_c_stops_the_stack_without_a_complaint(program):
    run = await program(STACK)
    while b"Ctrl-C" not in await run.process.stdout.readline():
        pass
    await run.end(signal.SIGINT)
    assert run.process.returncode == 0
    await run.leaves_nothing()


async def test_ctrl_c_during_the_download_leaves_no_half_entry(program, tmp_path: Path):
    run = await program(STACK, XDG_CACHE_HOME=str(tmp_path))
    await run.until(lambda: any(run.directory.glob("*/jars.log")))
    await run.end(signal.SIGINT)
    await run.leaves_nothing()
    assert [path.name for path in tmp_path.rglob("*") if "kafka" in path.name] == []


async def test_leaving_a_home_stops_the_children_last_one_first_and_deletes_it():
    async with Home.open() as home:
        children = [await home.spawn(name, ["sleep", "600"]) for name in ("first", "second")]
        order: list[str] = []

        async def note_end(child: Process) -> None:
            await child.wait()
            order.append(child.name)

        ends = asyncio.gather(*map(note_end, children))
    await ends
    assert order == ["second", "first"]
    assert [child.returncode for child in children] == [-signal.SIGTERM] * 2
    assert not home.path.exists()


async def test_a_kept_home_has_the_logs_and_no_process(capfd):
    async with Home.open(keep=True) as home:
        child = await home.spawn("echo", ["sh", "-c", "echo seen; sleep 600"])
        await child.says("seen")
    assert (home.path / "echo.log").read_text() == "seen\n"
    assert child.returncode == -signal.SIGTERM
    (home.path / "echo.log").unlink()
    (home.path / "tmp").rmdir()
    home.path.rmdir()


async def test_a_child_that_ignores_the_stop_is_killed_after_the_grace(home: Home):
    child = await home.spawn("deaf", [sys.executable, "-c", STUBBORN])
    await child.says("deaf")
    assert await child.stop(grace=0.1) == -signal.SIGKILL


async def test_a_frozen_child_can_be_stopped(home: Home):
    child = await home.spawn("frozen", ["sleep", "600"])
    child.freeze()
    assert await child.stop(grace=10) == -signal.SIGTERM


async def test_what_a_child_started_ends_with_it(home: Home):
    child = await home.spawn("parent", ["sh", "-c", "sleep 600 & echo $!; wait"])
    await child.says("\n")
    await child.kill()
    await ended(int(child.tail()))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
async def test_a_daemon_that_left_the_family_ends_with_the_home():
    async with Home.open() as home:
        code = "import subprocess as s; print(s.Popen(['sleep', '600'], start_new_session=True).pid)"
        child = await home.spawn("daemon", [sys.executable, "-c", code])
        await child.wait()
        daemon = int(child.tail())
        assert daemon in census()
    await ended(daemon)


async def test_a_child_gets_the_additions_to_the_environment_and_the_mark(home: Home):
    child = await home.spawn("env", ["env"], env={"GREETING": "hello"})
    await child.wait()
    lines = child.tail(1000).splitlines()
    assert "GREETING=hello" in lines
    assert f"{MARK}={home.path}" in lines


async def test_a_missing_program_is_reported_by_name(home: Home):
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        await home.spawn("nothing", ["no-such-program"])
