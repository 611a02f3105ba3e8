"""A process inside a test: its tasks are known, so that a crash ends all of them at once, as SIGKILL does."""

import asyncio
import contextvars
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

from eventing.testing.loop import owner

ROUNDS = 1_000  # turns of the loop that a crashed process may need to be gone

_here: ContextVar["Process | None"] = ContextVar("_here", default=None)


class Process:
    """Runs a coroutine and everything it starts; needs a `VirtualLoop` to crash."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self.crashed = False
        self._tasks = dict[asyncio.Task[Any], None]()  # in the order of their start, so that a crash is repeatable
        self._reaper: asyncio.Task[None] | None = None
        context = contextvars.copy_context()
        context.run(owner.set, self._tasks)
        context.run(_here.set, self)
        self._main: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, context=context)
        self._main.add_done_callback(lambda _: self.crash())  # what a process leaves behind ends with it

    async def ended(self) -> None:
        """Wait until the process has ended by itself; raises what ended it."""
        await self._main

    @property
    def running(self) -> bool:
        """True until it has ended or crashed."""
        return not self._main.done()

    @property
    def alive(self) -> bool:
        """True as long as something of it may still happen."""
        return self._reaper is None

    def crash(self) -> None:
        """Kill the process: from now on nothing of it happens any more."""
        if self._reaper is None:
            self.crashed = self.running
            self._cut()
            self._reaper = asyncio.get_running_loop().create_task(self._reap(), context=contextvars.Context())

    async def gone(self) -> None:
        """Wait until nothing of a crashed process is left.

        Raises:
            RuntimeError: something of it survives.
        """
        if self._reaper is not None:
            await self._reaper

    async def _reap(self) -> None:
        """End every task, and again what their `finally` blocks try meanwhile."""
        for _ in range(ROUNDS):
            if not self._cut():
                return
            await asyncio.sleep(0)
        raise RuntimeError(f"a crashed process is still there: {self._cut()}")

    def _cut(self) -> list[asyncio.Task[Any]]:
        left = [task for task in self._tasks if not task.done()]
        for task in left:
            task.cancel()
        return left


def here() -> Process | None:
    """Return the process that runs the calling code, None outside of any."""
    return _here.get()


def survive() -> None:
    """Go on only if the calling process has not crashed: a dead one reaches nobody any more.

    Raises:
        CancelledError: it has.
    """
    process = _here.get()
    if process is not None and not process.alive:
        raise asyncio.CancelledError
