"""Run a command to its end, or to Ctrl-C, SIGTERM or SIGHUP: each leaves nothing running."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from rich.console import Console

from workbench.deadline import NotReadyError

Found = TypeVar("Found")


def run_to_end(work: Coroutine[Any, Any, Found], console: Console) -> Found:
    """Run `work` and return what it found.

    Raises:
        SystemExit: with 130 when it was interrupted, with the reason when a part did not start.
    """
    try:
        return asyncio.run(_interruptible(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped; nothing is left running")
        raise SystemExit(130) from None
    except NotReadyError as error:
        raise SystemExit(str(error)) from None
    except ExceptionGroup as failed:
        expected, unexpected = failed.split(NotReadyError)
        if unexpected or not expected:
            raise
        raise SystemExit("\n".join(map(str, _flat(expected)))) from None


async def _interruptible(work: Coroutine[Any, Any, Found]) -> Found:
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def _flat(group: BaseExceptionGroup[NotReadyError]) -> list[NotReadyError]:
    """Return the errors of a group and of the groups in it."""
    return [e for part in group.exceptions for e in (_flat(part) if isinstance(part, BaseExceptionGroup) else [part])]
