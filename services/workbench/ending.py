"""How a run ends: by itself, by a signal, or because a part did not start.

Ctrl-C, SIGTERM and SIGHUP cancel what the run waits for, however often they come. asyncio's own answer to a second
Ctrl-C is a KeyboardInterrupt wherever the loop happens to be, in the middle of cleaning up too; it then waits for ever
for the tasks which that has broken.
"""

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from workbench.deadline import NotReadyError

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end and return its result.

    Raises:
        KeyboardInterrupt: A signal ended it, and it has cleaned up.
        SystemExit: A part did not start; the message says which and why.
    """
    try:
        return asyncio.run(_cancelled_by_signals(work))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except NotReadyError as failed:
        raise SystemExit(str(failed)) from None
    except ExceptionGroup as failed:
        expected, unexpected = failed.split(NotReadyError)
        if unexpected or not expected:
            raise
        raise SystemExit("\n".join(map(str, _flat(expected)))) from None


async def _cancelled_by_signals(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(work)
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def _flat(group: BaseExceptionGroup[NotReadyError]) -> Iterator[NotReadyError]:
    for part in group.exceptions:
        if isinstance(part, BaseExceptionGroup):
            yield from _flat(part)
        else:
            yield part
