"""One append-only file that every process of a chaos run writes: the order of its lines is the order of what happened.

The kernel appends one `write` at a time, so the lines of many processes need no clock to be put in order; a line
that was written survives the SIGKILL of its writer. This module runs inside the consumers too: it imports nothing of
ours.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Line:
    """One fact: `who` did `what` at `at` (monotonic seconds, the same clock for every process of a machine)."""

    at: float
    who: str
    what: str
    place: tuple[str, int, int] | None = None  # topic, partition and offset of the event it is about
    key: str = ""


class Journal:
    """Writes lines."""

    def __init__(self, path):
        self.path = Path(path)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, who, what, place=None, key=""):
        """Append a line."""
        os.write(self._file, json.dumps([time.monotonic(), who, what, place, key]).encode() + b"\n")

    def lines(self):
        """Return every line, in order."""
        found = (json.loads(line) for line in self.path.read_bytes().splitlines())
        return [Line(at, who, what, tuple(place) if place else None, key) for at, who, what, place, key in found]
