"""What a commit says beside its offset, so that no rebalance forgets it.

How often unfinished records have failed, and which records behind the committed offset are finished already:
`v1:100=2,107=1;101-106,110`. Kafka keeps up to 4,096 bytes with an offset (`offset.metadata.max.bytes`).
"""

from collections.abc import Iterable

from eventing.offset_ranges import OffsetRanges

VERSION = "v1:"
LIMITS = (1024, 2048)  # bytes for either part; what lies nearest to the offset comes first, the rest is done again


def write(failed: dict[int, int], done: Iterable[tuple[int, int]] = ()) -> str:
    """Return the note; empty when there is nothing to say.

    Args:
        failed: failed attempts by offset.
        done: ranges of finished offsets (first, last), ascending.
    """
    attempts = _fitting((f"{offset}={failed[offset]}" for offset in sorted(failed)), LIMITS[0])
    ranges = _fitting((str(a) if a == b else f"{a}-{b}" for a, b in OffsetRanges(done)), LIMITS[1])
    if not attempts and not ranges:
        return ""
    return VERSION + attempts + (f";{ranges}" if ranges else "")


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
