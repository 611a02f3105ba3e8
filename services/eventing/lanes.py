"""Lanes and watermarks: which record may run next, and up to where a partition is finished. No I/O.

Records of one key form a lane and run one after another; lanes run side by side. `pending` holds a partition's
records in the order of delivery; the watermark is the first one not finished, so gaps in the offsets
(compaction, transaction markers) never matter.
"""

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from eventing.event import Record

Place = tuple[str, int]  # topic and partition


class Entry:
    """One delivered record on its way through a lane."""

    __slots__ = ("attempt", "done", "first_failed", "lane", "previous", "record", "size", "verdict")

    def __init__(self, record: Record, lane: "Lane") -> None:
        self.record = record
        self.lane = lane
        self.size = len(record.value or b"") + len(record.key or b"") + 200  # bytes; headers are estimated
        self.attempt = 1
        self.done = False
        self.first_failed: float | None = None  # seconds since the epoch
        self.previous: Any = None  # span context of the attempt before
        self.verdict: Any = None  # the outcome, once it is final but its dead letter is not yet written


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

    def __init__(self, place: Place, position: int) -> None:
        self.place = place
        self.position = position  # offset after the last delivered record
        self.committed = position
        self.closed = False
        self.full = False  # not polled until it is down to `low`
        self.low = 0
        self.pending: deque[Entry] = deque()
        self.lanes: dict[Hashable, Lane] = {}
        self.runnable: deque[Lane] = deque()

    @property
    def watermark(self) -> int:
        """Offset to commit: everything before it is finished."""
        return self.pending[0].record.offset if self.pending else self.position

    def close(self) -> None:
        """Forget everything; what still runs is stale from now on."""
        self.closed = True
        self.pending.clear()
        self.lanes.clear()
        self.runnable.clear()


class Lanes:
    """The assigned partitions of a consumer, and the turn-taking between them."""

    def __init__(self) -> None:
        self.partitions: dict[Place, Partition] = {}
        self.records = 0  # held in memory, running and resting ones included
        self.bytes = 0
        self.running: dict[tuple[Place, Hashable], Entry] = {}
        self.frozen = False
        self.progress = time.time()  # seconds since the epoch: when a record last finished
        self.on_room: Callable[[], None] = lambda: None  # called when a partition that was full has room again
        self._turns: deque[Partition] = deque()
        self._behind: dict[tuple[Place, Hashable], Lane] = {}  # lanes that wait for a stale attempt of their key

    def open(self, place: Place, position: int) -> Partition:
        """Start a partition at `position`."""
        self.partitions[place] = partition = Partition(place, position)
        return partition

    def close(self, place: Place) -> None:
        """Drop a partition: queued records are forgotten, running ones become stale."""
        partition = self.partitions.pop(place, None)
        if partition is None:
            return
        self.records -= len(partition.pending)
        self.bytes -= sum(entry.size for entry in partition.pending)
        partition.close()
        self._turns = deque(p for p in self._turns if not p.closed)
        self._behind = {key: lane for key, lane in self._behind.items() if not lane.partition.closed}

    def deliver(self, place: Place, records: Iterable[Record]) -> int:
        """Queue records of a partition in order; returns how many. Those before its position are ignored."""
        partition = self.partitions.get(place)
        if partition is None:
            return 0
        count = 0
        for record in records:
            if record.offset < partition.position:
                continue
            partition.position = record.offset + 1
            entry = self._queue(partition, record)
            self.records += 1
            self.bytes += entry.size
            count += 1
        return count

    def _queue(self, partition: Partition, record: Record) -> Entry:
        key: Hashable = record.key if record.key is not None else record.offset
        lane = partition.lanes.get(key)
        if lane is None:
            lane = partition.lanes[key] = Lane(partition, key)
        entry = Entry(record, lane)
        lane.queue.append(entry)
        partition.pending.append(entry)
        if len(lane.queue) == 1 and not lane.busy:
            self._enable(lane)
        return entry

    def _enable(self, lane: Lane) -> None:
        partition = lane.partition
        if not partition.runnable:
            self._turns.append(partition)
        partition.runnable.append(lane)

    def take(self) -> Entry | None:
        """Return the next record that may run, the partitions taking turns; None when there is none."""
        while self._turns and not self.frozen:
            partition = self._turns.popleft()
            lane = partition.runnable.popleft()
            if partition.runnable:
                self._turns.append(partition)
            lane.busy = True
            if lane.id in self.running:  # a stale attempt of this key still runs in this process
                self._behind[lane.id] = lane
                continue
            self.running[lane.id] = lane.queue[0]
            return lane.queue[0]
        return None

    @property
    def waiting(self) -> bool:
        """True when `take` would find something."""
        return bool(self._turns) and not self.frozen

    def ended(self, entry: Entry) -> bool:
        """Note that an attempt no longer runs; False when it is stale, and then nothing else may follow from it."""
        self.running.pop(entry.lane.id, None)
        if (lane := self._behind.pop(entry.lane.id, None)) is not None:
            self._enable(lane)
        return not entry.lane.partition.closed

    def finish(self, entry: Entry) -> None:
        """Mark a record as finished for good and let the next one of its key run."""
        lane, partition = entry.lane, entry.lane.partition
        lane.queue.popleft()
        entry.done = True
        self.progress = time.time()
        while partition.pending and partition.pending[0].done:
            self._forget(partition.pending.popleft())
        if partition.full and len(partition.pending) <= partition.low:
            partition.full = False
            self.on_room()
        lane.busy = False
        if lane.queue:
            self._enable(lane)
        else:
            del partition.lanes[lane.id[1]]

    def _forget(self, entry: Entry) -> None:
        self.records -= 1
        self.bytes -= entry.size

    def again(self, entry: Entry) -> None:
        """Let a resting record run again; nothing happens when its partition has gone."""
        if not entry.lane.partition.closed:
            entry.lane.busy = False
            self._enable(entry.lane)

    def admit(self, max_records: int, max_bytes: int) -> list[Place]:
        """Return the partitions to poll: a full one comes back at half of its share."""
        share = max(1, max_records // max(1, len(self.partitions)))
        for partition in self.partitions.values():
            held = len(partition.pending)
            partition.low = share // 2
            partition.full = held >= share or (partition.full and held > partition.low)
        if self.records >= max_records or self.bytes >= max_bytes:
            for partition in self.partitions.values():
                partition.full = partition.full or bool(partition.pending)
            return []
        return [place for place, partition in self.partitions.items() if not partition.full]

    def uncommitted(self) -> dict[Place, int]:
        """Return the watermarks that moved since their last commit."""
        return {place: p.watermark for place, p in self.partitions.items() if p.watermark > p.committed}
