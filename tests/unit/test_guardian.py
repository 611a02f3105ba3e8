"""The backstop acts when the pipe ends, on exactly what the run told it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from workbench import guardian
from workbench.guardian import Guardian, Origin, census, family

ENDLESS = (sys.executable, "-c", "import time; print(flush=True); time.sleep(600)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)",
)

PARENT = (
    sys.executable,
    "-c",
    "import subprocess as s; s.Popen(['sleep', '9'], start_new_session=True); print(flush=True); s.os.wait()",
)

LINUX = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


class Run:
    """A guardian as a home starts it, and children for it to guard."""

    def __init__(self, home: Path, cleanup: ExitStack) -> None:
        self.home = home
        self._cleanup = cleanup
        script = [sys.executable, "-I", "-S", guardian.__file__, str(home)]
        self.guardian = subprocess.Popen(script, stdin=subprocess.PIPE, text=True, bufsize=1, start_new_session=True)
        self._end_with_test(self.guardian)

    def _end_with_test(self, process: subprocess.Popen) -> None:
        self._cleanup.enter_context(process)
        self._cleanup.callback(process.kill)

    def child(self, argv=ENDLESS, **environment: str) -> subprocess.Popen:
        """Start a child and wait until it runs and has set its signal handlers."""
        child = subprocess.Popen(
            argv, stdout=subprocess.PIPE, env={**os.environ, **environment}, start_new_session=True
        )
        assert child.stdout
        child.stdout.readline()
        self._end_with_test(child)
        return child

    def tell(self, fact: str) -> None:
        """Write a line to the guardian."""
        assert self.guardian.stdin
        self.guardian.stdin.write(f"{fact}\n")

    def die(self) -> None:
        """What the death of the run looks like to its guardian."""
        assert self.guardian.stdin
        self.guardian.stdin.close()
        assert self.guardian.wait(10) == 0


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with ExitStack() as cleanup:
        yield Run(tmp_path / "home", cleanup)


def test_children_and_directories_are_removed_when_the_run_dies(run: Run):
    child = run.child()
    (run.home / "deep").mkdir(parents=True)
    run.tell(f"dir {run.home}")
    run.tell(f"pid {child.pid} {signal.SIGTERM.value}")
    run.die()
    assert child.wait(1) == -signal.SIGTERM
    assert not run.home.exists()


def test_a_child_that_ignores_the_polite_signal_is_killed(run: Run):
    child = run.child(STUBBORN)
    run.tell(f"pid {child.pid} {signal.SIGTERM.value}")
    run.die()
    assert child.wait(1) == -signal.SIGKILL


def test_a_frozen_child_is_ended(run: Run):
    child = run.child()
    child.send_signal(signal.SIGSTOP)
    run.tell(f"pid {child.pid} {signal.SIGTERM.value}")
    run.die()
    assert child.wait(1) == -signal.SIGTERM


def test_a_grandchild_in_another_session_is_ended(run: Run):
    child = run.child(PARENT)
    relatives = family(child.pid)
    assert len(relatives) == 2
    run.tell(f"pid {child.pid} {signal.SIGTERM.value}")
    run.die()
    assert not relatives & set(census())


@LINUX
def test_a_child_the_run_had_no_time_to_name_is_found_by_its_mark(run: Run):
    child = run.child(**{guardian.MARK: str(run.home)})
    run.die()
    assert child.wait(1) == -signal.SIGTERM


def test_a_child_that_ended_before_is_not_touched(run: Run):
    child = run.child()
    run.tell(f"pid {child.pid} {signal.SIGTERM.value}")
    run.tell(f"gone {child.pid}")
    run.die()
    assert child.poll() is None


def test_a_process_that_only_reuses_the_number_is_not_touched(run: Run, monkeypatch: pytest.MonkeyPatch):
    child = run.child()
    watched = Guardian(home=str(run.home))
    earlier = {child.pid: Origin(parent=1, started="earlier")}
    with monkeypatch.context() as then:
        then.setattr(guardian, "census", lambda: earlier)
        watched.follow([f"pid {child.pid} {signal.SIGTERM.value}\n"])
    watched.clean()
    assert child.poll() is None


@LINUX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_outlives_the_signals_that_end_the_run(run: Run, number: signal.Signals):
    child = run.child()
    run.tell(f"pid {child.pid} {signal.SIGTERM.value}")
    _wait_until_ignored(run.guardian.pid, number)
    run.guardian.send_signal(number)
    run.die()
    assert child.wait(1) == -signal.SIGTERM


def test_it_leaves_at_once_when_the_run_is_done(run: Run):
    child = run.child()
    run.home.mkdir()
    run.tell(f"dir {run.home}")
    run.tell(f"pid {child.pid} {signal.SIGTERM.value}")
    run.tell("done")
    assert run.guardian.wait(10) == 0
    assert child.poll() is None
    assert run.home.exists()


def test_a_family_reaches_over_every_generation(run: Run):
    child = run.child((sys.executable, "-c", f"import subprocess; subprocess.run({PARENT!r})"))
    members = family(child.pid)
    assert len(members) == 3
    assert child.pid in members
    guardian.send(signal.SIGKILL, members)


def _wait_until_ignored(pid: int, number: signal.Signals) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        if int(status["SigIgn"], 16) >> (number - 1) & 1:
            return
        time.sleep(0.01)
    raise AssertionError(f"the guardian never ignored {number.name}")
