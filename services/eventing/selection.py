"""Which waiting letters a redrive sends, in what order, and which it keeps and why. No I/O.

Only places are held, never bodies. Two rules keep the order of a key: a key with parked letters goes as a whole or
not at all, and the letters of any key go in the order in which their records first came.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from sys import intern

from eventing.errors import EventingError
from eventing.letter import PARKED, DeadLetter

MAX_REDRIVES = 3  # a letter that came back this often stays, and is reported

TOO_OFTEN = f"came back {MAX_REDRIVES} times"
NO_BODY = "pointer: too large for a letter, it has no body"
NO_ORIGIN = "no dead letter of ours: its headers name no origin"
HELD = "behind a kept letter of its parked key"


class IncompleteKeys(EventingError):
    """The filter matches some letters of a parked key and not the others."""


@dataclass(slots=True, eq=False)
class Place:
    """Where a waiting letter is, and what decides about it; about 300 bytes each."""

    partition: int
    offset: int
    size: int  # bytes of its value
    id: bytes
    key: bytes | None  # digest of origin topic and record key; None without a key
    topic: str  # the origin's
    origin: tuple[int, int]  # partition and offset
    reason: str
    redrives: int
    obstacle: str  # why it cannot be sent at all, else empty
    wanted: bool

    @classmethod
    def of(cls, letter: DeadLetter, *, wanted: bool) -> "Place":
        """Note the place of a letter."""
        topic, partition, offset = letter.origin or ("", 0, 0)
        record = letter.record
        unsendable = NO_BODY if letter.pointer else NO_ORIGIN if not letter.origin or not letter.group else ""
        return cls(
            partition=record.partition,
            offset=record.offset,
            size=len(record.value or b""),
            id=_digest(letter.id.encode()),
            key=None if record.key is None else _digest(topic.encode() + b"\0" + record.key),
            topic=intern(topic),
            origin=(partition, offset),
            reason=intern(letter.reason),
            redrives=letter.redrives,
            obstacle=unsendable,
            wanted=wanted,
        )


@dataclass(slots=True)
class Selection:
    """What a redrive would send, in order, and what becomes of the others."""

    chosen: list[Place] = field(default_factory=list)
    waiting: int = 0
    there: Counter[str] = field(default_factory=Counter)  # all that wait, by reason
    unmatched: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    over_limit: int = 0
    keys: Counter[bytes] = field(default_factory=Counter)  # parked keys among the chosen, and their letters
    older: dict[bytes, list[Place]] = field(default_factory=dict)  # of letters there is a newer one of

    @property
    def reasons(self) -> Counter[str]:
        """The chosen, by reason."""
        return Counter(place.reason for place in self.chosen)

    @property
    def superseded(self) -> int:
        """Letters that are done with the newer ones that are sent."""
        return sum(len(self.older.get(place.id, ())) for place in self.chosen)


def select(
    waiting: Iterable[Place], *, whole_keys: bool = False, force: bool = False, limit: int | None = None
) -> Selection:
    """Choose among the waiting letters.

    Args:
        waiting: every waiting letter, with `wanted` as the filter says.
        whole_keys: widen the selection to all letters of the parked keys it touches.
        force: choose also what came back `MAX_REDRIVES` times.
        limit: letters at most; a parked key that does not fit is left as a whole.

    Raises:
        IncompleteKeys: only some letters of a parked key are wanted, and `whole_keys` is not set.
    """
    result = Selection()
    newest = _newest(waiting, result)
    parked = {place.key for place in newest if place.reason == PARKED and place.key is not None}
    asked = _asked(newest, parked, whole_keys=whole_keys)
    result.unmatched = len(newest) - len(asked)
    able = list(_able(asked, parked, result, force=force))
    taken = able if limit is None else list(_limited(able, parked, result, limit))
    result.keys = Counter(place.key for place in taken if place.key in parked and place.key is not None)
    result.chosen = list(_in_order(taken))
    return result


def _newest(waiting: Iterable[Place], result: Selection) -> list[Place]:
    """Return the newest letter of each id: a dead letter may be written twice, and a redriven one may be back."""
    newest: dict[bytes, Place] = {}
    for place in waiting:
        result.waiting += 1
        result.there[place.reason] += 1
        other = newest.setdefault(place.id, place)
        if other is not place:
            older, newest[place.id] = sorted((other, place), key=lambda p: (p.redrives, p.offset))
            result.older.setdefault(place.id, []).append(older)
    return sorted(newest.values(), key=lambda p: (p.partition, p.offset))


def _asked(newest: list[Place], parked: set[bytes], *, whole_keys: bool) -> list[Place]:
    touched = {place.key for place in newest if place.wanted and place.key in parked}
    missing = Counter(place.key for place in newest if place.key in touched and not place.wanted)
    if missing and not whole_keys:
        one = len(missing) == 1
        raise IncompleteKeys(
            f"the filter matches some letters of {len(missing)} parked {'key' if one else 'keys'} and leaves out "
            f"{missing.total()}; a parked key goes back whole or not at all, in order: "
            f"use --whole-keys to take all letters of {'that key' if one else 'those keys'}, or another filter"
        )
    return [place for place in newest if place.wanted or place.key in missing]


def _able(asked: list[Place], parked: set[bytes], result: Selection, *, force: bool) -> Iterator[Place]:
    stuck = {place: why for place in asked if (why := _obstacle(place, force=force))}
    held = {place.key for place in stuck if place.key in parked}
    for place in asked:
        if place in stuck or place.key in held:
            result.kept[stuck.get(place, HELD)] += 1
        else:
            yield place


def _obstacle(place: Place, *, force: bool) -> str:
    """Say why a letter stays; one that was parked was never tried, so its coming back is no loop of its own."""
    looping = place.redrives >= MAX_REDRIVES and place.reason != PARKED and not force
    return place.obstacle or (TOO_OFTEN if looping else "")


def _limited(able: list[Place], parked: set[bytes], result: Selection, limit: int) -> Iterator[Place]:
    need = Counter(place.key if place.key in parked else None for place in able)
    room, fits = limit, dict[bytes, bool]()
    for place in able:
        if place.key is not None and place.key in parked:
            if place.key not in fits:
                fits[place.key] = need[place.key] <= room
                room -= need[place.key] * fits[place.key]
            taken = fits[place.key]
        else:
            taken = room > 0
            room -= taken
        if taken:
            yield place
        else:
            result.over_limit += 1


def _in_order(taken: list[Place]) -> Iterator[Place]:
    """Order as in the dead-letter topic, except that the letters of a key swap places to be in their first order."""
    keys: defaultdict[bytes, list[Place]] = defaultdict(list)
    for place in taken:
        if place.key is not None:
            keys[place.key].append(place)
    turns = {key: deque(sorted(places, key=lambda p: p.origin)) for key, places in keys.items()}
    for place in taken:
        yield turns[place.key].popleft() if place.key is not None else place


def _digest(of: bytes) -> bytes:
    return blake2b(of, digest_size=16).digest()
