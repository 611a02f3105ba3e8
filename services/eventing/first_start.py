"""`start="latest"` applies once: when a group first reads a topic, and never again, whatever happens to one partition.

When that was, and how many partitions the topic had, travels in the note of every commit. A partition without a commit
begins at its first record if it was added later, else at what was written since. No I/O.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from eventing import commit_note
from eventing.errors import Misconfigured
from eventing.port import Start


@dataclass(frozen=True, slots=True)
class FirstStart:
    """When a group first read a topic (`at`, milliseconds since the epoch), and how many partitions that had then."""

    partitions: int
    at: int
    now: bool = False  # it is doing so

    @classmethod
    def of(cls, group: str, topic: str, notes: Iterable[str], partitions: int, now: float) -> "FirstStart":
        """Return what the group's commits of a topic tell; without any, it is now (seconds since the epoch).

        Raises:
            Misconfigured: there are commits, and none tells: where to begin a partition without one is a guess.
        """
        if not (notes := list(notes)):
            return cls(partitions, int(now * 1000), now=True)
        told = [known for note in notes if (known := commit_note.first_start(note))]
        if not told:
            raise Misconfigured(
                f"group {group} has commits of {topic}, but not of every partition, and none says when it first read "
                "the topic: commit an offset of those it lacks (kafka-consumer-groups --reset-offsets)"
            )
        return cls(*min(told, key=lambda known: known[1]))

    def looks_up(self, partition: int) -> bool:
        """Tell whether a partition begins at what was written since."""
        return not self.now and partition < self.partitions

    def begin(self, partition: int, first: int, last: int, since: int | None) -> Start:
        """Return where to begin a partition that has no commit.

        Args:
            partition: its number.
            first: its first offset.
            last: the offset after its last record.
            since: its first offset written since the group began; None when nothing was, or is asked for.
        """
        offset = first if partition >= self.partitions else last if since is None else max(since, first)
        return Start(offset, commit_note.write({}, first=(self.partitions, self.at)), fresh=True)
