"""What the consumer runtime asks of the outside: a member of a group, a way to send, a memory of parked keys.

The shipped runtime speaks to Kafka and PostgreSQL through these, and to the broker of `eventing.testing` through the
same ones.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from eventing.event import Record
from eventing.headers import Headers
from eventing.lane import Place

Listener = Callable[[list[Place]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin a partition.

    `note` is the metadata of the commit, `lost` the number of offsets that expired before they were read, `cut` how
    many of those that were read are no longer there, because the log was cut (an unclean election, a topic made anew).
    `fresh` says that the group has never committed one of the partition.
    """

    offset: int
    note: str = ""
    lost: int = 0
    cut: int = 0
    fresh: bool = False

    @classmethod
    def after(cls, committed: int, note: str, first: int, last: int) -> "Start":
        """Return where to go on after a commit in a partition that has the offsets from `first` to before `last`."""
        if committed > last:
            return cls(last, cut=committed - last)
        return cls(max(committed, first), note, lost=max(first - committed, 0))


class Client(Protocol):
    """One member of a consumer group."""

    @property
    def broken(self) -> bool:
        """True when it will never join again and must be replaced."""
        ...

    @property
    def rejoining(self) -> bool:
        """True while the group is being rebalanced."""
        ...

    @property
    def silent(self) -> float:
        """Seconds since the group last answered this member."""
        ...

    async def start(self, topics: Iterable[str]) -> None:
        """Connect and join the group."""
        ...

    async def stop(self) -> None:
        """Leave the group and close; commits nothing, calls no listener."""
        ...

    async def poll(self, places: Sequence[Place], *, limit: int, seconds: float) -> dict[Place, Sequence[Record]]:
        """Return new records of `places`, at most `limit`; with no places, only stay alive.

        Raises:
            Misconfigured: this member can never be one of the group.
        """
        ...

    async def starts(self, places: Sequence[Place], latest: Collection[str] = ()) -> dict[Place, Start]:
        """Return where to begin each partition; of topics in `latest`, a group begins with what comes.

        Raises:
            Misconfigured: see `FirstStart.of`.
        """
        ...

    def seek(self, place: Place, offset: int) -> None:
        """Continue a partition at `offset`; ignored when it is no longer ours."""
        ...

    def position(self, place: Place) -> int | None:
        """Return the offset after what the client has passed, markers and gaps included; None when unknown."""
        ...

    async def commit(self, offsets: dict[Place, tuple[int, str]]) -> None:
        """Commit explicit offsets, each with a note."""
        ...

    def end(self, place: Place) -> int | None:
        """Return the last stable offset of a partition as of the last fetch, None before it."""
        ...

    async def ends(self, places: Sequence[Place]) -> dict[Place, int]:
        """Ask the broker for the ends of partitions."""
        ...

    async def check(self) -> None:
        """Raise unless a broker answers."""
        ...

    async def missing(self, topics: Iterable[str]) -> list[str]:
        """Return those of `topics` that the cluster does not have; raises when no broker answers."""
        ...


class Sender(Protocol):
    """A way to send one record and to know that it is written."""

    async def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Headers, partition: int | None = None
    ) -> None:
        """Send one record; returns once every in-sync replica has it, else raises `SendFailed`."""
        ...


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a keyed record was first: topic, key, partition, offset."""

    topic: str
    key: bytes
    partition: int
    offset: int


class Fence(Protocol):
    """Which keys of a group are parked, and behind which records. A key is parked while a record of it is."""

    async def keys(self, *, within: float | None = None) -> set[tuple[str, bytes]]:
        """Return every parked key, with its topic; at least those that were parked in the last seconds."""
        ...

    async def enter(self, spot: Spot) -> Literal["free", "head", "behind", "passed"]:
        """Ask for the turn of a record of a key that may be parked.

        free: the key is not parked. head: this is the first record that is. behind: others come first, and from now
        on this one is parked too. passed: it was finished before its key was parked.
        """
        ...

    async def parked(self, topic: str, partition: int, first: int, before: int) -> list[Spot]:
        """Return the parked records of a partition with offsets from `first` to below `before`."""
        ...

    async def park(self, spot: Spot) -> None:
        """Park a record, and with it its key."""
        ...

    async def lift(self, spot: Spot) -> bool:
        """Strike a record that is done off; True when it was the last of its key, which is free again."""
        ...
