"""A record, its lane and its partition: what is held of Kafka's log, and what of it is finished. No I/O.

`pending` holds a partition's records in the order of delivery; the watermark is the first one not finished, so gaps
in the offsets (compaction, transaction markers) never matter.
"""

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Any

from eventing import commit_note
from eventing.event import Record

Place = tuple[str, int]  # topic and partition

HEADERS = 200  # bytes a record's headers and its place in memory are taken to need


class Entry:
    """One delivered record on its way through a lane."""

    __slots__ = ("attempt", "done", "first_failed", "lane", "previous", "record", "size", "started", "verdict")

    def __init__(self, record: Record, lane: "Lane", attempt: int) -> None:
        self.record = record
        self.lane = lane
        self.size = len(record.value or b"") + len(record.key or b"") + HEADERS  # bytes
        self.attempt = attempt  # from 1
        self.done = False
        self.started = 0.0  # `time.perf_counter` of the attempt under way
        self.first_failed: float | None = None  # seconds since the epoch
        self.previous: Any = None  # span of the attempt before
        self.verdict: Any = None  # what it came to, once that is final but not yet written where it has to be


class Lane:
    """The records of one key of one partition, in order."""

    __slots__ = ("busy", "id", "partition", "queue")

    def __init__(self, partition: "Partition", key: Hashable) -> None:
        self.partition = partition
        self.id = (partition.place, key)
        self.queue: deque[Entry] = deque()
        self.busy = False  # running, resting before its next attempt, or waiting for a stale attempt


class Partition:
    """One assigned partition, for as long as it is assigned; a later assignment is another object."""

    def __init__(self, place: Place, position: int, note: str = "") -> None:
        self.place = place
        self.position = position  # offset after the last delivered record
        self.committed = position
        self.closed = False
        self.full = False  # not polled until it is down to `low`
        self.low = 0
        self.due = 0.0  # by the loop's clock: not polled before
        self.pending: deque[Entry] = deque()
        self.lanes: dict[Hashable, Lane] = {}
        self.runnable: deque[Lane] = deque()
        self.resting: set[Entry] = set()  # before their next attempt
        self.failed, self.done = commit_note.read(note, position)  # attempts by offset; finished before, by another
        self.first = commit_note.first_start(note)
        self.noted = note

    @property
    def watermark(self) -> int:
        """Offset to commit: everything before it is finished."""
        return self.pending[0].record.offset if self.pending else self.position

    def note(self) -> str:
        """Return what a commit says beside the watermark; looks at every record held."""
        if not self.pending and not self.failed:
            return commit_note.write({}, first=self.first)
        return commit_note.write(self.failed, [*self._finished_before(), *self._finished()], self.first)

    def _finished_before(self) -> list[tuple[int, int]]:
        return [(first, last) for first, last in self.done or () if last >= self.watermark]

    def _finished(self) -> Iterator[tuple[int, int]]:
        """Return ranges of what is finished behind the watermark; offsets without records join their neighbours."""
        first = last = None
        for entry in self.pending:
            if not entry.done:
                if first is not None and last is not None:
                    yield first, last
                first = None
                continue
            first, last = entry.record.offset if first is None else first, entry.record.offset
        if first is not None and last is not None:
            yield first, last

    def close(self) -> None:
        """Forget everything; what still runs is stale from now on."""
        self.closed = True
        for held in (self.pending, self.lanes, self.runnable, self.resting):
            held.clear()
