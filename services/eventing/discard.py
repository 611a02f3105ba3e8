"""Dead letters → nothing: what will never be handled is passed over, and its key is free of it.

The letters stay in their topic until its retention ends; they are no longer waiting. Each is logged with who gave it
up and why: this is the only way in which an event ends without an effect, and a person takes it.
"""

import getpass
from collections.abc import Callable

import structlog

from eventing.dead_letter_queue import DeadLetterQueue
from eventing.errors import EventingError, Misconfigured
from eventing.letter import PARKED, DeadLetter
from eventing.letter_filter import Filter
from eventing.port import Fence, Spot

FenceOf = Callable[[str], Fence]

log = structlog.get_logger()


async def discard(queue: DeadLetterQueue, wanted: Filter, *, why: str, fence_of: FenceOf | None) -> int:
    """Give up the letters that match; returns how many.

    Args:
        queue: where they are.
        wanted: tells which.
        why: a person's reason, for the log.
        fence_of: opens the parked keys of a group; None without a database.

    Raises:
        Misconfigured: a letter belongs to a parked key, and there is no database to free it in.
        Unavailable: the broker or the database stopped answering; run it again for the others.
    """
    letters = [_Given(letter) async for letter in queue.letters() if wanted.matches(letter)]
    spots = [letter.spot for letter in letters]
    if not queue.fits(spots):
        raise EventingError(
            f"{queue.topic}: too many letters in between would stay; discard fewer at once, oldest first"
        )
    for letter in letters:
        await letter.free(fence_of)  # before it counts as done: no key must stay parked behind what is gone
        log.warning("dead_letter_discarded", id=letter.id, topic=queue.topic, by=getpass.getuser(), why=why)
    await queue.done(spots)
    return len(letters)


class _Given:
    """A letter to be given up, without its body."""

    __slots__ = ("group", "id", "origin", "parked", "spot")

    def __init__(self, letter: DeadLetter) -> None:
        self.id, self.group, self.parked = letter.id, letter.group, letter.reason == PARKED
        self.spot = (letter.record.partition, letter.record.offset)
        key = letter.record.key
        self.origin = Spot(letter.origin[0], key, *letter.origin[1:]) if letter.origin and key is not None else None

    async def free(self, fence_of: FenceOf | None) -> None:
        """Strike it off its key, if that is parked."""
        if self.origin is None:
            return
        if fence_of is not None:
            await fence_of(self.group).lift(self.origin)
        elif self.parked:
            raise Misconfigured("its key is parked in the group's database; set EVENTING_DATABASE_URL to free it there")
