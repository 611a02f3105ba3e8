"""Time, as the event loop tells it: a loop with a clock of its own (`eventing.testing`) brings its own time."""

import asyncio
import time


def monotonic() -> float:
    """Return seconds since an unknown moment; call inside a running loop."""
    return asyncio.get_running_loop().time()


def wall() -> float:
    """Return seconds since the epoch; call inside a running loop."""
    told: float = getattr(asyncio.get_running_loop(), "wall", time.time)()
    return told
