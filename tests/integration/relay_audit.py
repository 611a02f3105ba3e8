"""What committed, and what the topic says arrived: lost events, inversions of first deliveries, duplicates."""

from collections import Counter, defaultdict
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """An event of a key, by the version of its aggregate."""

    id: str
    key: str
    version: int


@dataclass(frozen=True)
class Audit:
    """The verdict over a run."""

    committed: int
    lost: list[Event]
    foreign: list[Event]  # arrived though their transaction was rolled back
    inversions: list[tuple[Event, Event]]  # the later version arrived first
    duplicates: int

    def __str__(self):
        return (
            f"{self.committed} committed, {len(self.lost)} lost, {len(self.inversions)} inverted, "
            f"{len(self.foreign)} foreign, {self.duplicates} duplicates"
        )


def audit(committed, skipped, arrived):
    """Compare.

    Args:
        committed: events the database says were committed.
        skipped: ids of those a person gave up.
        arrived: events as they lie in the topic, in order within each key.
    """
    ids, there = {event.id for event in committed}, {event.id for event in arrived}
    return Audit(
        committed=len(committed),
        lost=[event for event in committed if event.id not in there and event.id not in skipped],
        foreign=[event for event in arrived if event.id not in ids],
        inversions=list(_inversions(arrived)),
        duplicates=sum(Counter(event.id for event in arrived).values()) - len(there),
    )


def _inversions(arrived):
    """Yield neighbours among the first deliveries of a key that are in the wrong order."""
    first = defaultdict(dict)
    for event in arrived:
        first[event.key].setdefault(event.id, event)
    for events in first.values():
        highest = None
        for event in events.values():
            if highest is not None and event.version < highest.version:
                yield highest, event
            else:
                highest = event
