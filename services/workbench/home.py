"""One temporary directory and every child process of a run, gone together when the run is over."""

import asyncio
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Self

from workbench import guardian
from workbench.process import Process


class Home:
    """Where a run lives. Open it with `Home.open`.

    Attributes:
        path: The temporary directory.
        making: Held by who makes something that the whole run shares.
    """

    def __init__(self, path: Path, pipe: int, exits: AsyncExitStack) -> None:
        self.path = path
        self._pipe = pipe
        self._exits = exits
        self._running: set[int] = set()
        self.making = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, *, keep: bool = False) -> AsyncIterator[Self]:
        """Open a home; leaving it stops the children, the last one first, and deletes the directory.

        Should this process be killed instead, a guardian process does the same.

        Args:
            keep: Leave the directory, with the logs in it, to be looked at. The children stop all the same.
        """
        path = _new_path()
        with _guardian(path) as pipe:
            async with AsyncExitStack() as exits:
                home = cls(path, pipe, exits)
                exits.callback(home._leave, keep=keep)
                if not keep:
                    home.discard(path)  # announced before it exists: at no moment it is nobody's
                path.mkdir(mode=0o711)  # 1: PostgreSQL runs as another user when we are root
                yield home

    def directory(self, name: str) -> Path:
        """Return the directory `name` inside the home, created when it is not there."""
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def discard(self, path: Path) -> None:
        """Have the guardian delete `path` too, should this process be killed."""
        self._tell(f"dir {path}")

    def on_close(self, stop: Callable[[], Awaitable[object]]) -> None:
        """Await `stop()` when the home is left, in reverse order with the children."""
        self._exits.push_async_callback(stop)

    async def spawn(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace: float = 25,
    ) -> Process:
        """Start a child with its output in the file `NAME.log` of the home.

        Args:
            name: What it is, for messages and the log.
            argv: Program and arguments.
            env: Additions to our environment. Temporary files go into the home.
            cwd: Working directory; the home when None.
            user: System user to run as; needs root.
            stop_signal: What makes it shut down in order.
            grace: Seconds it has for that when the home is left.

        Raises:
            FileNotFoundError: There is no such program.
        """
        log = self.path / f"{name}.log"
        with log.open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                *map(str, argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=self._environment(env or {}),
                cwd=cwd or self.path,
                start_new_session=True,
                user=user,
                group=pwd.getpwnam(user).pw_gid if user else None,
                extra_groups=[] if user else None,
            )
        self._tell(f"pid {child.pid} {stop_signal.value}")
        self._running.add(child.pid)
        process = Process(name, child, log, stop_signal=stop_signal, ended=self._ended)
        self.on_close(lambda: process.stop(grace))
        return process

    def _environment(self, additions: Mapping[str, str]) -> dict[str, str]:
        # A run inside a child has its home inside ours, so that killing the child leaves nothing either.
        ours = {"TMPDIR": str(self.directory("tmp")), guardian.MARK: str(self.path)}
        return {**os.environ, "PYTHONUNBUFFERED": "1", **additions, **ours}

    def _ended(self, pid: int) -> None:
        self._running.discard(pid)
        self._tell(f"gone {pid}")

    def _leave(self, *, keep: bool) -> None:
        guardian.send(signal.SIGKILL, guardian.marked(str(self.path)))  # what a child started and left behind
        if not keep:
            shutil.rmtree(self.path, ignore_errors=True)
        if not self._running:  # else stopping was interrupted, and the guardian finishes it
            self._tell("done")

    def _tell(self, fact: str) -> None:
        # Somebody may have killed the guardian. The run needs it only if it is killed too.
        with suppress(BrokenPipeError):
            os.write(self._pipe, f"{fact}\n".encode())


def _new_path() -> Path:
    return Path(tempfile.gettempdir()).resolve() / f"evenkeel-{secrets.token_hex(4)}"


@contextmanager
def _guardian(home: Path) -> Iterator[int]:
    """Run the guardian; yield the pipe to it. It leaves by itself when the pipe closes."""
    script = [sys.executable, "-I", "-S", guardian.__file__, str(home)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        script, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, cwd="/", start_new_session=True
    ) as process:
        assert process.stdin  # noqa: S101 - a pipe was asked for
        yield process.stdin.fileno()
