"""Wait until a runner has done what it should, and look at what it took."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from workbench.ports import LOOPBACK
from workbench.process import Process

WITHIN = 120.0  # seconds for one run
_PAUSE = 0.02


class RunFailedError(Exception):
    """A runner ended before its work did, or took too long."""


async def done(process: Process, answers: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `answers` says yes.

    Raises:
        RunFailedError: with the last words of the runner.
    """
    deadline = time.monotonic() + WITHIN
    while not await answers():
        if process.returncode is not None:
            raise RunFailedError(f"{process.name} ended with status {process.returncode}:\n{process.tail()}")
        if time.monotonic() > deadline:
            raise RunFailedError(f"{process.name} was not done after {WITHIN:g} s:\n{process.tail()}")
        await asyncio.sleep(_PAUSE)


async def wrote(result: Path) -> bool:
    """Tell whether a runner wrote its result."""
    return result.exists()  # noqa: ASYNC240  # a look at a directory in memory


async def ready(port: int) -> bool:
    """Tell whether a consumer has joined its group and says so."""
    async with httpx.AsyncClient() as http:
        try:
            return (await http.get(f"http://{LOOPBACK}:{port}/readyz")).is_success
        except httpx.TransportError:
            return False


def peak_mib(pid: int) -> float:
    """Return the most memory a process had resident so far, in MiB (`VmHWM`, proc_pid_status(5); Linux only)."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return round(int(status["VmHWM"].removesuffix("kB")) / 1024, 1)
