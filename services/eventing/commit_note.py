"""What a commit says beside its offset: how often unfinished records have failed, so that no rebalance forgets it.

Kafka keeps up to 4,096 bytes of metadata with a committed offset (`offset.metadata.max.bytes`).
"""

VERSION = "v1:"
LIMIT = 3 * 1024  # bytes; the records nearest to the watermark come first, those beyond start again at one


def write(failed: dict[int, int]) -> str:
    """Return the note for failed attempts by offset: `v1:100=2,107=1`."""
    note, size = [], len(VERSION)
    for offset in sorted(failed):
        part = f"{offset}={failed[offset]}"
        size += len(part) + 1
        if size > LIMIT:
            break
        note.append(part)
    return VERSION + ",".join(note)


def read(note: str, position: int) -> dict[int, int]:
    """Return the failed attempts of the offsets from `position` on; a note of another writer says nothing."""
    if not note.startswith(VERSION):
        return {}
    found = {}
    for part in note.removeprefix(VERSION).split(","):
        offset, _, attempts = part.partition("=")
        if offset.isdecimal() and attempts.isdecimal() and int(offset) >= position:
            found[int(offset)] = int(attempts)
    return found
