"""A process inside a test: its tasks are known, so that a crash ends all of them at once, as SIGKILL does."""

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

from eventing.testing.loop import owner

ROUNDS = 1_000  # turns of the loop that a crashed process may need to be gone


class Process:
    """Runs a coroutine and everything it starts; needs a `VirtualLoop` to crash."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self.crashed = False
        self._tasks = set[asyncio.Task[Any]]()
        context = contextvars.copy_context()
        context.run(owner.set, self._tasks)
        self._main: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(self._main)

    async def ended(self) -> None:
        """Wait until the process has ended by itself; raises what ended it."""
        await self._main

    @property
    def running(self) -> bool:
        """True until it has ended or crashed."""
        return not self._main.done()

    def crash(self) -> None:
        """Kill the process: from now on nothing of it happens any more."""
        self.crashed = True
        for task in list(self._tasks):
            task.cancel()

    async def gone(self) -> None:
        """Wait until nothing of a crashed process is left; what its `finally` blocks try meanwhile is cut, too.

        Raises:
            RuntimeError: something of it survives.
        """
        for _ in range(ROUNDS):
            left = [task for task in self._tasks if not task.done()]
            if not left:
                return
            for task in left:
                task.cancel()
            await asyncio.sleep(0)
        raise RuntimeError(f"a crashed process is still there: {left}")
