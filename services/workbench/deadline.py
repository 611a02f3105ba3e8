"""Waiting for a part to answer, for so long and no longer."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from workbench.process import Process

# Short beside the start of any part, long beside one attempt to reach it.
_PAUSE = 0.02


class NotReadyError(Exception):
    """A part ended, or did not answer in time."""


async def ready(process: Process, answers: Callable[[], Awaitable[bool]], *, seconds: float = 60) -> None:
    """Ask `answers` until it says yes.

    Args:
        process: The part that is asked.
        answers: One attempt. OSError means not yet.
        seconds: The bound.

    Raises:
        NotReadyError: The process ended, or the time is over; the message has the end of its log.
    """
    until = time.monotonic() + seconds
    while not await _attempt(answers):
        if process.returncode is not None:
            raise NotReadyError(_complaint(process, f"ended with status {process.returncode}"))
        if time.monotonic() > until:
            raise NotReadyError(_complaint(process, f"did not answer in {seconds:.0f} s"))
        await asyncio.sleep(_PAUSE)


async def _attempt(answers: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await asyncio.wait_for(answers(), timeout=5)
    except OSError:  # TimeoutError is one
        return False


def _complaint(process: Process, what: str) -> str:
    return f"{process.name} {what}; the end of {process.log}:\n{process.tail()}"


async def listens(host: str, port: int) -> bool:
    """Return whether something accepts connections there."""
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    await writer.wait_closed()
    return True
