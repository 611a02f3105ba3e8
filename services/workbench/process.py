"""A child process of a run."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from workbench.guardian import family, send


class Process:
    """One child in a session of its own, so that Ctrl-C in the terminal reaches only the run.

    Attributes:
        name: What it is, for messages.
        pid: Its process number.
        log: File with its output, standard error included.
    """

    def __init__(
        self,
        name: str,
        child: asyncio.subprocess.Process,
        log: Path,
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        ended: Callable[[int], None] = lambda _pid: None,
    ) -> None:
        self.name = name
        self.pid = child.pid
        self.log = log
        self._child = child
        self._stop_signal = stop_signal
        self._ended = ended

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for the signal that ended it; None while it runs."""
        return self._child.returncode

    async def wait(self) -> int:
        """Wait for its end; return the exit status."""
        status = await self._child.wait()
        self._ended(self.pid)
        return status

    async def stop(self, grace: float = 25) -> int:
        """Ask it to stop; after `grace` seconds kill it with everything it started.

        A cancelled wait kills at once: whoever presses Ctrl-C a second time is in a hurry.

        Returns:
            The exit status.
        """
        relatives = self._relatives()
        if self.returncode is None:
            send(self._stop_signal, [self.pid])
            send(signal.SIGCONT, relatives)  # a frozen process acts on no signal
            await self._ends_within(grace, relatives)
        return await self._finish(relatives)

    async def kill(self) -> int:
        """End it and everything it started at once, as a crash would; return the exit status."""
        return await self._finish(self._relatives())

    def freeze(self) -> None:
        """Suspend it: connections stay open, nothing answers."""
        send(signal.SIGSTOP, self._relatives())

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        send(signal.SIGCONT, self._relatives())

    async def says(self, text: str, seconds: float = 10) -> None:
        """Wait until its output contains `text`.

        Raises:
            TimeoutError: It did not within `seconds`; the message has the end of the output.
        """
        try:
            async with asyncio.timeout(seconds):
                while text not in self._output():  # noqa: ASYNC110 - a file has no event
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise TimeoutError(f"{self.name} did not say {text!r} in {seconds:g} s:\n{self.tail()}") from None

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of its output, for an error message."""
        return "\n".join(self._output().splitlines()[-lines:])

    def _output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _relatives(self) -> set[int]:
        # Once the child has been reaped its number may be anybody's.
        return family(self.pid) if self.returncode is None else set()

    async def _ends_within(self, seconds: float, relatives: set[int]) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._child.wait()
        except TimeoutError:
            return
        except asyncio.CancelledError:
            send(signal.SIGKILL, relatives)
            raise

    async def _finish(self, relatives: set[int]) -> int:
        # PostgreSQL puts each of its children into a session of its own: the group is not enough.
        if self.returncode is None:
            send(signal.SIGKILL, relatives | {self.pid})
        else:
            send(signal.SIGKILL, {pid for pid in relatives if _session(pid) == self.pid})
        return await self.wait()


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1
