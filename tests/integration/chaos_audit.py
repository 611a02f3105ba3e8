"""What a journal proves: nothing lost, order kept, nothing twice at once, and a reason for every repetition."""

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

SETTLE = 6.0  # seconds after a fault within which the member may not yet know that the group went on without it
BEGINS = {"dies", "freezes", "cut", "stalled", "stops"}
ENDS = {"thawed", "healed", "up"}


@dataclass(frozen=True, slots=True)
class Handling:
    """One run of a handler; `first` and `last` are lines of the journal.

    `outcome` is ended, failed, or cut when the process died under it.
    """

    who: str
    place: tuple[str, int, int]
    key: str
    first: int
    last: int
    outcome: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Something done to a member or to the broker, from one moment to another (monotonic seconds)."""

    what: str
    who: str
    since: float
    until: float


class Audit:
    """Reads a journal."""

    def __init__(self, lines):
        self._lines = lines
        self.faults = list(_faults(lines))
        self.handlings = sorted(_handlings(lines), key=lambda handling: handling.first)
        self._by_place = defaultdict(list)
        self._by_lane = defaultdict(list)
        for handling in self.handlings:
            self._by_place[handling.place].append(handling)
            self._by_lane[handling.place[:2], handling.key].append(handling)

    def begun_at(self, handling):
        """Return when a handling began."""
        return self._lines[handling.first].at

    def lost(self, places):
        """Return those of the events that no handler has ended."""
        return [p for p in places if not any(h.outcome == "ended" for h in self._by_place[tuple(p)])]

    def disordered(self):
        """Return pairs of events of one key whose first ends are not in the order of the topic."""
        for lane in self._by_lane.values():
            ends = {}
            for handling in sorted(lane, key=lambda h: h.last):
                if handling.outcome == "ended":
                    ends.setdefault(handling.place[2], handling)
            yield from ((a, b) for a, b in pairwise(ends.values()) if a.place[2] > b.place[2])

    def overlapping(self):
        """Return pairs of handlings of one key that ran at once."""
        for lane in self._by_lane.values():
            running = []
            for handling in lane:
                running = [h for h in running if h.last > handling.first]
                yield from ((h, handling) for h in running)
                running.append(handling)

    def repeated(self):
        """Return pairs of handlings of one event, of which the first had not failed."""
        for handlings in self._by_place.values():
            yield from ((a, b) for a, b in pairwise(handlings) if a.outcome != "failed")

    def ahead(self, pair):
        """Tell whether a repeated event was finished before an earlier one of its partition had begun its last run.

        A commit names the first unfinished event alone, so what was finished behind it comes again with it.
        """
        topic, partition, offset = pair[0].place
        earlier = (self._by_place[topic, partition, n] for n in range(offset))
        return any(handlings and handlings[-1].first > pair[0].last for handlings in earlier)

    def reason(self, pair):
        """Return the fault that explains a repetition or an overlap across processes, None when none does.

        A member that died leaves what it had not committed. One that was frozen or cut off does not know, until
        shortly after it is back, that another has its events. Without the broker nobody can commit.
        """
        a, b = pair
        began, again = self._lines[a.first].at, self._lines[b.first].at
        for fault in self.faults:
            if fault.since > again or fault.until + SETTLE < began:
                continue
            if fault.who in ("broker", a.who) or (fault.who == b.who and fault.what != "dies"):
                return fault
        return None


def _faults(lines):
    since = {}
    for line in lines:
        if line.what in BEGINS:
            since[line.who] = line
            if line.what == "dies" and line.who != "broker":
                yield Fault(line.what, line.who, line.at, line.at)
        elif line.what in ENDS and line.who in since:
            begun = since.pop(line.who)
            yield Fault(begun.what, line.who, begun.at, line.at)
    yield from (Fault(begun.what, who, begun.at, math.inf) for who, begun in since.items() if begun.what != "dies")


def _handlings(lines):
    running = defaultdict(dict)  # of each process, by event
    for number, line in enumerate(lines):
        if line.what == "began":
            running[line.who][line.place] = (number, line.key)
        elif line.what in ("ended", "failed"):
            first, key = running[line.who].pop(line.place)
            yield Handling(line.who, line.place, key, first, number, line.what)
        elif line.what == "gone":
            yield from (Handling(line.who, p, k, f, number, "cut") for p, (f, k) in running.pop(line.who, {}).items())
    for who, left in running.items():
        yield from (Handling(who, p, k, f, len(lines), "cut") for p, (f, k) in left.items())
