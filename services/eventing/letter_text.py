"""A dead letter as a person or a script reads it. What a stranger wrote cannot steer the terminal."""

import re
from typing import Any

from rich.text import Text

from eventing import headers
from eventing.letter import DeadLetter

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # all but tabs and ends of lines


def visible(text: str) -> str:
    """Return a text with its control characters spelled out."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def row_of(letter: DeadLetter) -> list[Text]:
    """Return the cells of a table: id, type, why, error, attempts, redrives, origin."""
    known = letter.known
    cells = (
        letter.id,
        known.get(headers.TYPE, "-"),
        known.get(headers.DISPOSITION, "-"),
        f"{known.get(headers.ERROR_TYPE, '-')}: {known.get(headers.ERROR_MESSAGE, '')}",
        known.get(headers.ATTEMPT, "-"),
        str(letter.redrives),
        "/".join(map(str, letter.origin or ("?", "?", "?"))),
    )
    return [Text(visible(cell)) for cell in cells]  # not str: rich would read "[/x]" in a message as markup


def as_object(letter: DeadLetter) -> dict[str, Any]:
    """Return what a script wants to know; the names are those of the filter where there is one."""
    known, (topic, partition, offset) = letter.known, letter.origin or (None, None, None)
    return {
        "id": letter.id,
        "key": letter.key,
        "reason": letter.reason,
        "pointer": letter.pointer,
        "error": known.get(headers.ERROR_TYPE),
        "message": known.get(headers.ERROR_MESSAGE),
        "type": known.get(headers.TYPE),
        "eventId": known.get(headers.ID),
        "attempts": known.get(headers.ATTEMPT),
        "redrives": letter.redrives,
        "lastFailed": letter.last_failed.isoformat(),
        "partition": letter.record.partition,
        "offset": letter.record.offset,
        "originTopic": topic,
        "originPartition": partition,
        "originOffset": offset,
    }


def body_of(letter: DeadLetter) -> str:
    """Return the body as text when it is UTF-8, else as hex, under a line that says which."""
    body = letter.record.value
    if letter.pointer:
        return f"body: none, the letter is a pointer; the bytes are at {'/'.join(map(str, letter.origin or ('?',)))}"
    if body is None:
        return "body: none, the value is null"
    try:
        return f"body, {len(body)} bytes of text:\n{visible(body.decode())}"
    except UnicodeDecodeError:
        return f"body, {len(body)} bytes that are not UTF-8, in hex:\n{body.hex(' ', 2)}"
