"""An event loop whose clock stands still while anything can run, and jumps to the next timer when nothing can.

A test of an hour of backoff takes milliseconds, and the same schedule every time. The loop knows tasks, timers and
threads, not sockets: what speaks to a real server belongs on an ordinary loop.
"""

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any

from eventing.errors import EventingError

EPOCH = 1_767_225_600.0  # where the wall clock begins: 2026-01-01T00:00:00Z
THREAD_PATIENCE = 10.0  # real seconds that a thread may take
TURNS = 100_000  # of the loop in one moment: more, and something goes round without ever waiting

Test = Callable[..., Awaitable[None]]

owner: ContextVar["dict[asyncio.Task[Any], None] | None"] = ContextVar("owner", default=None)


class StandstillError(EventingError):
    """Everything waits, and no timer is set: nothing can ever happen again; or time stands still for ever."""


class _Selector(selectors.DefaultSelector):
    """Selects without waiting; the loop's time goes on instead."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> Any:
        self.loop.turns += 1
        if self.loop.turns > TURNS:
            raise StandstillError(f"time has stood still for {TURNS} turns: something goes round without waiting")
        found = super().select(0)
        if found or timeout == 0:
            return found
        if self.loop.threads:
            return super().select(THREAD_PATIENCE)
        if timeout is None:
            raise StandstillError
        self.loop.pass_time(timeout)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self._now = 0.0
        self.turns = 0  # since time last went on
        self.threads = 0  # under way
        super().__init__(selector)
        self._clock_resolution = 1e-9
        self.set_task_factory(_owned)

    def time(self) -> float:
        """Return the loop's seconds."""
        return self._now

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return EPOCH + self._now

    def pass_time(self, seconds: float) -> None:
        """Let time go on."""
        self._now += seconds
        self.turns = 0

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]  # the types of any function
        """Run in a thread; time stands still meanwhile."""
        self.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: object) -> None:
        self.threads -= 1


def _owned(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], *, context: Context | None = None, **more: Any
) -> asyncio.Task[Any]:
    """Make a task that belongs to the process that makes it, so that a crash ends them all."""
    task = asyncio.Task(work, loop=loop, context=context, **more)
    tasks = owner.get() if context is None else context.get(owner)
    if tasks is not None:
        tasks[task] = None
        task.add_done_callback(lambda done: tasks.pop(done, None))
    return task


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in virtual time.

    Raises:
        StandstillError: everything waits, and no timer is set.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def virtual_time(test: Test) -> Callable[..., None]:
    """Make an async test a plain one that runs in virtual time; needs no plugin."""

    @functools.wraps(test)
    def in_virtual_time(*args: Any, **kwargs: Any) -> None:
        run(_awaited(test(*args, **kwargs)))

    return in_virtual_time


async def _awaited(work: Awaitable[None]) -> None:
    await work
