"""Which record may run next, and up to where each partition is finished: turn-taking between lanes. No I/O.

Records of one key form a lane and run one after another; lanes run side by side. Without an order to keep, each
record is a lane of its own.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from itertools import islice

from eventing import commit_note
from eventing.event import Record
from eventing.lane import Entry, Lane, Partition, Place


class Lanes:
    """The assigned partitions of a consumer, and the turn-taking between them."""

    def __init__(self, *, ordered: bool = True) -> None:
        self.partitions: dict[Place, Partition] = {}
        self.records = 0  # held in memory, running and resting ones included
        self.bytes = 0
        self.running: dict[tuple[Place, Hashable], Entry] = {}
        self.frozen = False
        self.finished = 0  # records, ever
        self.on_room: Callable[[], None] = lambda: None  # called when a partition that was full has room again
        self._ordered = ordered
        self._turns: deque[Partition] = deque()
        self._behind: dict[tuple[Place, Hashable], Lane] = {}  # lanes that wait for a stale attempt of their key

    def open(self, place: Place, position: int, note: str = "") -> Partition:
        """Start a partition at `position`, with what its last commit noted."""
        self.partitions[place] = partition = Partition(place, position, note)
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
        """Queue records of a partition in order; returns how many.

        Those before its position are ignored, and those that an earlier owner has finished ahead of its watermark.
        """
        partition = self.partitions.get(place)
        if partition is None:
            return 0
        count = 0
        for record in records:
            if record.offset < partition.position:
                continue
            partition.position = record.offset + 1
            if partition.done is not None and record.offset in partition.done:
                continue
            self.records += 1
            self.bytes += self._queue(partition, record).size
            count += 1
        return count

    def _queue(self, partition: Partition, record: Record) -> Entry:
        key: Hashable = record.key if record.key is not None and self._ordered else record.offset
        lane = partition.lanes.get(key)
        if lane is None:
            lane = partition.lanes[key] = Lane(partition, key)
        entry = Entry(record, lane, partition.failed.get(record.offset, 0) + 1)
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

    def take_many(self, limit: int) -> list[Entry]:
        """Return up to `limit` records that may run together: lanes from their first record on.

        A record whose fate is decided, but not yet written, comes without those behind it.
        """
        taken: list[Entry] = []
        while len(taken) < limit and (entry := self.take()) is not None:
            room = 1 if entry.verdict is not None else limit - len(taken)
            taken += islice(entry.lane.queue, room)
        return taken

    @property
    def waiting(self) -> bool:
        """True when `take` would find something."""
        return bool(self._turns) and not self.frozen

    @property
    def resting(self) -> int:
        """Records that wait for their next attempt."""
        return sum(len(partition.resting) for partition in self.partitions.values())

    def ended(self, entry: Entry) -> bool:
        """Note that an attempt no longer runs; False when it is stale, and then nothing else may follow from it."""
        self.running.pop(entry.lane.id, None)
        if self._behind and (lane := self._behind.pop(entry.lane.id, None)) is not None:
            self._enable(lane)
        return not entry.lane.partition.closed

    def finish(self, entry: Entry) -> None:
        """Mark the first record of a lane as finished for good; `release` lets the next one run."""
        partition = entry.lane.partition
        entry.lane.queue.popleft()
        entry.done = True
        self.finished += 1
        if partition.failed:
            partition.failed.pop(entry.record.offset, None)
        pending = partition.pending
        while pending and pending[0].done:
            self.records -= 1
            self.bytes -= pending.popleft().size
        if partition.full and len(pending) <= partition.low:
            partition.full = False
            self.on_room()

    def release(self, lane: Lane) -> None:
        """Let a lane's next record run."""
        lane.busy = False
        if lane.queue:
            self._enable(lane)
        else:
            del lane.partition.lanes[lane.id[1]]

    def rest(self, entry: Entry) -> None:
        """Note that a record waits for its next attempt; only its own lane waits with it."""
        entry.lane.partition.resting.add(entry)
        if entry.attempt > 1:
            entry.lane.partition.failed[entry.record.offset] = entry.attempt - 1

    def again(self, entry: Entry) -> None:
        """Let a resting record run again; nothing happens when its partition has gone."""
        if not entry.lane.partition.closed:
            entry.lane.partition.resting.discard(entry)
            self.release(entry.lane)

    def hold(self, place: Place, until: float) -> None:
        """Poll a partition no more before `until`, by the loop's clock."""
        if place in self.partitions:
            self.partitions[place].due = until

    def share(self, max_records: int) -> int:
        """Return how many records a partition may hold and still be polled, and how many a poll may add.

        Half of its part: so the other half has room for a whole poll, and a partition that is held up takes nothing
        from the others.
        """
        return max(1, max_records // max(1, len(self.partitions)) // 2)

    def admit(self, max_records: int, max_bytes: int, now: float = 0.0) -> list[Place]:
        """Return the partitions to poll: a full one comes back when it is down to half, a held one when it is due."""
        high = self.share(max_records)
        for partition in self.partitions.values():
            held = len(partition.pending)
            partition.low = high // 2
            partition.full = held >= high or (partition.full and held > partition.low)
        if self.records >= max_records or self.bytes >= max_bytes:
            for partition in self.partitions.values():
                partition.full = partition.full or bool(partition.pending)
            return []
        return [place for place, p in self.partitions.items() if not p.full and p.due <= now]

    def passed(self, place: Place, position: int) -> None:
        """Step over what holds no record for us (markers, aborted transactions): the client is past it."""
        partition = self.partitions[place]
        if not partition.pending:
            partition.position = max(partition.position, position)

    def uncommitted(self, *, noted: bool = True) -> dict[Place, tuple[int, str]]:
        """Return the watermarks that moved since their last commit, with a note beside each.

        Args:
            noted: also those of which only the note has changed; without, notes are short and cost nothing.
        """
        found = {}
        for place, partition in self.partitions.items():
            moved = partition.watermark > partition.committed
            if noted and (moved or partition.pending or partition.noted):
                note = partition.note()
                if moved or note != partition.noted:
                    found[place] = (partition.watermark, note)
            elif moved:
                found[place] = (partition.watermark, commit_note.write(partition.failed, first=partition.first))
        return found
