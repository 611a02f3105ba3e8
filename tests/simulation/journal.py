"""What was seen of a run, and the invariants it is held to at every moment."""

from collections import Counter, defaultdict

from eventing import commit_note
from eventing import headers as names
from eventing.testing import MemoryRecord

Origin = tuple[str, int, int]  # topic, partition, offset of the first delivery


class Broken(AssertionError):
    """An invariant does not hold."""


class Journal:
    """The records of one run and what became of them."""

    def __init__(self, world) -> None:
        self.world = world
        self.lines: list[str] = []
        self.sources: dict[Origin, MemoryRecord] = {}
        self.processed = Counter[Origin]()
        self.failures = Counter[Origin]()  # attempts of first deliveries that failed and count
        self.expired: set[Origin] = set()
        self.flawed: set[Origin] = set()
        self.revoking: set[object] = set()  # members that have been asked for their partitions
        self._active: dict[object, dict] = defaultdict(dict)
        self._letters: dict[Origin, tuple[int, int]] = {}  # the last letter of each: redrives and attempts then
        self._read: Counter = Counter()
        self._commits = 0
        self._reached: dict[tuple[str, int], int] = {}

    def note(self, *words: object) -> None:
        """Write a line."""
        self.lines.append(f"{self.world.loop.time():.6f} " + " ".join(map(str, words)))

    def sent(self, record: MemoryRecord, *, flawed: bool) -> None:
        """Note a new record of the source topic; a flawed one can never be handled."""
        self.sources[_place(record)] = record
        if flawed:
            self.flawed.add(_place(record))

    def expire(self, place, before: int) -> None:
        """Note that retention has deleted records."""
        self.expired |= {o for o in self.sources if o[:2] == place and o[2] < before}

    def begins(self, member, event, run: frozenset[Origin]) -> None:
        """A handler begins with an event; `run` are all it has together."""
        origin = (event.topic, event.partition, event.offset)
        self.note("begins", self.world.name(member), *origin, event.attempt, event.redrives)
        key = self.sources[origin].key
        lane = (event.redrives > 0, event.retried, event.partition, key if self._has_lane(key) else event.offset)
        active = self._active[member]
        once = self._has_lane(key) or not (event.redrives or event.retried)  # a copy may be there twice
        if once and active.get(lane, run) is not run:
            raise Broken(f"two runs of {lane} at once in {self.world.name(member)}")
        active[lane] = run
        if not self.world.schedule.batch and len(active) > self.world.schedule.concurrency:
            raise Broken(f"{len(active)} handlers run at once")
        if member in self.revoking and not self.world.schedule.batch:  # a batch is halved to its end
            raise Broken(f"{origin} begins after its partition was asked back")
        self._check_order(origin, event, key, run)
        self._check_attempt(member, origin, event)
        if event.not_before is not None and event.not_before > self.world.loop.wall() + 0.001:
            raise Broken(f"{origin} runs {event.not_before - self.world.loop.wall():.3f} s before its time")

    def ends(self, member, event, result: str) -> None:
        """A handler run ends: ok, or the word of its failure, or cut when its process died."""
        origin = (event.topic, event.partition, event.offset)
        key = self.sources[origin].key
        lane = (event.redrives > 0, event.retried, event.partition, key if self._has_lane(key) else event.offset)
        self._active[member].pop(lane, None)
        self.note("ends", self.world.name(member), *origin, result)
        if result == "ok":
            self.processed[origin] += 1
        elif result == "failed" and event.redrives == 0 and not event.retried:
            self.failures[origin] += 1

    def _has_lane(self, key: bytes | None) -> bool:
        return key is not None and self.world.schedule.ordered

    def _check_order(self, origin: Origin, event, key: bytes | None, run: frozenset[Origin]) -> None:
        if not self._has_lane(key):
            return
        parks = self.world.schedule.exhausted == "park_key"
        if event.redrives and not parks:
            return
        for other, record in self.sources.items():
            if record.key != key or other[:2] != origin[:2] or other[2] >= origin[2] or other in self.expired | run:
                continue
            if self.processed[other] or (not parks and self._left(other)) or self.world.is_spoiled(record):
                continue
            raise Broken(f"{origin} runs before {other}, which is not finished")

    def _check_attempt(self, member, origin: Origin, event) -> None:
        client, group = member.client, self.world.group
        if event.redrives or event.retried or not group.knows(client) or client._generation != group.generation:
            return
        offset, note = group.committed.get(origin[:2], (0, ""))
        known = commit_note.read(note, offset)[0].get(origin[2], 0)
        if event.attempt <= known:
            raise Broken(f"attempt {event.attempt} of {origin}, although {known} are noted")

    def committed(self, member) -> None:
        """Check the commits accepted since the last look."""
        history = self.world.group.history
        for place, offset in history[self._commits :]:
            self.note("committed", *place, offset, self.world.group.committed[place][1])
            self._check_commit(place, offset)
        self._commits = len(history)

    def _check_commit(self, place, offset: int) -> None:
        log = self.world.broker.log(place)
        if offset < self._reached.get(place, 0):
            raise Broken(f"{place} went back from {self._reached[place]} to {offset}")
        if offset > log.end:
            raise Broken(f"{place}: {offset} was committed, and the log ends at {log.end}")
        self._reached[place] = offset
        for record in log.records:
            if record.offset >= offset:
                break
            if not self.finished(record):
                raise Broken(f"{place}: {offset} was committed, and {record.offset} is not finished")

    def finished(self, record: MemoryRecord) -> bool:
        """Tell whether a record, or a copy of one, has come to an end that nobody forgets."""
        origin, known = _origin(record)
        if self.processed[origin] or origin in self.expired:
            return True
        self._read_letters()
        return self._letters.get(origin, (-1, 0)) >= (known[0], known[1] + 1)

    def _left(self, origin: Origin) -> bool:
        self._read_letters()
        return origin in self._letters

    def wrote(self, member) -> None:
        """Check that what a member has just written elsewhere was still its own: what is late changes nothing."""
        for letter in self._read_letters():
            origin, (redrives, attempts) = _origin(letter)
            first = not redrives and attempts <= 1
            if first and self.world.writes_at_once and origin[:2] not in member.runtime.lanes.partitions:
                raise Broken(f"{self.world.name(member)} wrote {origin} to {letter.topic}, and has lost its partition")

    def _read_letters(self) -> list[MemoryRecord]:
        """Read the dead letters and retries that are new."""
        new = []
        for topic in self.world.written:
            for log in self.world.broker.logs[topic]:
                for record in log.records[self._read[id(log)] :]:
                    origin, known = _origin(record)
                    self._letters[origin] = max(known, self._letters.get(origin, (-1, 0)))
                    new.append(record)
                self._read[id(log)] = len(log.records)
        return new

    def check_memory(self, member) -> None:
        """Check what a member holds."""
        lanes, schedule = member.runtime.lanes, self.world.schedule
        held = [entry for partition in lanes.partitions.values() for entry in partition.pending]
        if (lanes.records, lanes.bytes) != (len(held), sum(entry.size for entry in held)):
            raise Broken(f"{lanes.records} records, {lanes.bytes} bytes are counted, {len(held)} are held")
        if len(held) > schedule.max_records + len(lanes.partitions):
            raise Broken(f"{len(held)} records are held, {schedule.max_records} may be")

    def check_end(self) -> None:
        """Check that nothing is lost once everything has settled."""
        for origin, record in self.sources.items():
            if not self.finished(record):
                raise Broken(f"{origin} is lost")
            self._check_healed(origin, record)
            if self.world.schedule.polite and self.world.schedule.row > 3:
                self._check_politeness(origin)
        for letter in self.world.harness.dead_letters:
            self._check_letter(letter)

    def _check_healed(self, origin: Origin, record: MemoryRecord) -> None:
        """Check that what handlers gave up came back, unless it stands behind what nobody can ever handle."""
        parks = self.world.schedule.exhausted == "park_key"
        behind = {record.key} - {None} if parks else set()
        keys = {self.sources[flawed].key for flawed in self.flawed if flawed[:2] == origin[:2]}
        if origin in self.flawed | self.expired or keys & behind:
            return
        if not self.processed[origin]:
            raise Broken(f"{origin} was given up, redriven, and never handled")
        if (origin[0], record.key) in self.world.fence._parked:
            raise Broken(f"{record.key} is parked for ever: everything of it was handled")

    def _check_politeness(self, origin: Origin) -> None:
        schedule = self.world.schedule
        if schedule.batch or schedule.exhausted == "block" or schedule.mode == "tiers" or self.world.stalls:
            return
        if self.failures[origin] > schedule.attempts:
            raise Broken(f"{origin} failed {self.failures[origin]} times, {schedule.attempts} attempts are allowed")

    def _check_letter(self, letter) -> None:
        if self.world.schedule.exhausted == "block":
            raise Broken("a key that blocks has a dead letter")
        origin, _ = _origin(letter.record)
        if letter.disposition.endswith(",pointer-only"):
            # Nobody can tell how far behind a gap the record is that cannot be read: a pointer may name the gap.
            named = next(
                (s for s in self.sources.values() if _place(s)[:2] == origin[:2] and s.offset >= origin[2]), None
            )
            if named is None or not self.world.is_spoiled(named):
                raise Broken(f"{origin} is readable, and its letter is a pointer")
            return
        source = self.sources[origin]
        kept = [pair for pair in letter.record.headers if not pair[0].startswith("x-")]
        wrong = (letter.record.key, letter.record.value) != (source.key, source.value)
        if wrong or kept[: len(source.headers)] != list(source.headers) or letter.record.partition != source.partition:
            raise Broken(f"the letter of {origin} differs from it")


def _place(record: MemoryRecord) -> Origin:
    return record.topic, record.partition, record.offset


def _origin(record: MemoryRecord) -> tuple[Origin, tuple[int, int]]:
    """Return where a record was first, and its redrives and attempts so far."""
    told = dict(record.headers)
    if names.ORIGIN_TOPIC not in told:
        return _place(record), (0, 0)
    origin = (told[names.ORIGIN_TOPIC].decode(), int(told[names.ORIGIN_PARTITION]), int(told[names.ORIGIN_OFFSET]))
    attempts = 0 if record.topic.endswith(".redrive") else int(told[names.ATTEMPT])
    return origin, (int(told.get(names.REDRIVE_COUNT, b"0")), attempts)
