"""What a commit says beside its offset, so that no rebalance forgets it.

How often unfinished records have failed, and which records behind the committed offset are finished already:
`v1:100=2,107=1;101-106,110`. A group that began at the end of its topic says when, and how many partitions there were:
`v1:first=6@1767225600000,100=2`. Kafka keeps up to 4,096 bytes with an offset (`offset.metadata.max.bytes`).
"""

from collections.abc import Iterable

from eventing.offset_ranges import OffsetRanges

VERSION = "v1:"
FIRST = "first="
LIMITS = (1024, 2048)  # bytes for either part; what lies nearest to the offset comes first, the rest is done again


def write(failed: dict[int, int], done: Iterable[tuple[int, int]] = (), first: tuple[int, int] | None = None) -> str:
    """Return the note; empty when there is nothing to say.

    Args:
        failed: failed attempts by offset.
        done: ranges of finished offsets (first, last), ascending.
        first: partitions, and milliseconds since the epoch, of the group's first start; see `first_start`.
    """
    start = f"{FIRST}{first[0]}@{first[1]}" if first else ""
    attempts = _fitting((f"{offset}={failed[offset]}" for offset in sorted(failed)), LIMITS[0])
    ranges = _fitting((str(a) if a == b else f"{a}-{b}" for a, b in OffsetRanges(done)), LIMITS[1])
    if not attempts and not ranges and not start:
        return ""
    return VERSION + start + ("," if start and attempts else "") + attempts + (f";{ranges}" if ranges else "")


def first_start(note: str) -> tuple[int, int] | None:
    """Return what a note says of the group's first start, None when it says nothing."""
    start = note.removeprefix(VERSION).partition(";")[0].partition(",")[0]
    partitions, _, at = start.removeprefix(FIRST).partition("@")
    if not (note.startswith(VERSION + FIRST) and partitions.isdecimal() and at.isdecimal()):
        return None
    return int(partitions), int(at)


def _fitting(parts: Iterable[str], limit: int) -> str:
    found, size = [], 0
    for part in parts:
        size += len(part) + 1
        if size > limit:
            break
        found.append(part)
    return ",".join(found)


def read(note: str, position: int) -> tuple[dict[int, int], OffsetRanges | None]:
    """Return failed attempts and finished ranges from `position` on; a note of another writer says nothing."""
    if not note.startswith(VERSION):
        return {}, None
    attempts, _, ranges = note.removeprefix(VERSION).partition(";")
    return _attempts(attempts, position), _ranges(ranges, position)


def _attempts(text: str, position: int) -> dict[int, int]:
    found = {}
    for part in text.split(","):
        offset, _, attempts = part.partition("=")
        if offset.isdecimal() and attempts.isdecimal() and int(offset) >= position:
            found[int(offset)] = int(attempts)
    return found


def _ranges(text: str, position: int) -> OffsetRanges | None:
    try:
        found = [(first, last) for first, last in OffsetRanges.parse(text) if last >= position]
    except ValueError:
        return None
    return OffsetRanges(found) if found else None
