"""Makes a schedule that breaks something as small as it can be, so that a person can read it."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.simulation.schedule import Schedule, Send

TRIES = 400  # runs, at most


def shrunk(schedule: Schedule, breaks: Callable[[Schedule], bool]) -> Schedule:
    """Return the smallest schedule found that still breaks, by leaving things out one after another."""
    tries, smaller = 0, True
    while smaller and tries < TRIES:
        smaller = False
        for candidate in _candidates(schedule):
            tries += 1
            if tries >= TRIES:
                break
            if breaks(candidate):
                schedule, smaller = candidate, True
                break
    return schedule


def _candidates(schedule: Schedule) -> Iterator[Schedule]:
    """Yield schedules that are a little simpler, the boldest first."""
    for field in ("steps", "troubles"):
        yield from (replace(schedule, **{field: left}) for left in _without(getattr(schedule, field)))
    plain = Schedule()
    for field in ("members", "partitions", "max_bytes", "row", "concurrency", "max_records", "attempts"):
        if getattr(schedule, field) != getattr(plain, field):
            yield replace(schedule, **{field: getattr(plain, field)})
    for at, step in enumerate(schedule.steps):
        if isinstance(step, Send):
            for simple in _simpler(step):
                yield replace(schedule, steps=(*schedule.steps[:at], simple, *schedule.steps[at + 1 :]))


def _without(things: tuple) -> Iterator[tuple]:
    size = len(things)
    while size:
        yield from (things[:at] + things[at + size :] for at in range(0, len(things), size))
        size //= 2


def _simpler(send: Send) -> Iterator[Send]:
    for field, simple in (("words", send.words[:-1]), ("overloads", 0), ("heals", 1), ("flaw", "")):
        if getattr(send, field) != simple:
            yield replace(send, **{field: simple})
