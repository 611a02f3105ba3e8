"""A consumer group in memory: members join, leave and are evicted, and each change is an eager rebalance.

As in Kafka's classic protocol: every member gives up all it has, then the group has a new generation and everybody
is assigned anew; a commit of an older generation is refused.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from aiokafka.errors import CommitFailedError

from eventing.lane import Place


class Group:
    """One consumer group."""

    def __init__(self, places_of: Callable[[Sequence[str]], list[Place]]) -> None:
        """Describe the group; `places_of` returns the partitions of topics."""
        self.generation = 0
        self.committed: dict[Place, tuple[int, str]] = {}
        self.history: list[tuple[Place, int]] = []  # of commits, as they were accepted
        self.changed = asyncio.Event()  # replaced by the next change of the membership
        self._places_of = places_of
        self._members: dict[object, tuple[str, ...]] = {}
        self._ready = set[object]()
        self._assigned: dict[object, list[Place]] = {}
        self._synced = asyncio.Event()  # replaced by the next generation
        self._stable = True

    def join(self, member: object, topics: Iterable[str]) -> None:
        """Take a member in, or in again."""
        self._members[member] = tuple(topics)
        self.rebalance()

    def leave(self, member: object) -> None:
        """Let a member go; also one that is dead, or that is thought to be."""
        if self._members.pop(member, None) is not None:
            self._ready.discard(member)
            self._assigned.pop(member, None)
            self.rebalance()

    def rebalance(self) -> None:
        """Ask every member to give up what it has."""
        self._stable = False
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
        self._complete()

    def appeared(self, topic: str) -> None:
        """Share out a topic that did not exist when its subscribers joined."""
        if any(topic in topics for topics in self._members.values()):
            self.rebalance()

    def knows(self, member: object) -> bool:
        """Tell whether a member belongs to the group."""
        return member in self._members

    @property
    def stable(self) -> bool:
        """True when every member has its partitions."""
        return self._stable

    async def sync(self, member: object) -> tuple[int, list[Place]]:
        """Be ready for the next generation; returns it, with the partitions assigned to `member`."""
        self._ready.add(member)
        synced = self._synced  # of this generation: another may have been asked for when we wake up
        self._complete()
        await synced.wait()
        return self.generation, self._assigned.get(member, [])

    def _complete(self) -> None:
        """Begin a generation once everybody is ready: partitions go round, topic by topic."""
        if self._stable or not self._ready >= self._members.keys():
            return
        self.generation += 1
        self._ready.clear()
        members = list(self._members)
        self._assigned = {member: [] for member in members}
        topics = sorted({topic for topics in self._members.values() for topic in topics})
        for turn, place in enumerate(self._places_of(topics) if members else ()):
            self._assigned[members[turn % len(members)]].append(place)
        self._stable = True
        synced, self._synced = self._synced, asyncio.Event()
        synced.set()

    def commit(self, member: object, generation: int, offsets: dict[Place, tuple[int, str]]) -> None:
        """Accept a commit.

        Raises:
            CommitFailedError: the member is not of this generation.
        """
        if member not in self._members or generation != self.generation:
            raise CommitFailedError("the group has moved on")
        self.committed |= offsets
        self.history += [(place, offset) for place, (offset, _) in offsets.items()]
