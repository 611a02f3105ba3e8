"""One dead letter as it is read: a record of a dead-letter topic, and what its headers say."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from eventing import headers
from eventing.event import MAX_DIGITS, Record

PARKED = "sequence-parked"  # the disposition of a letter that waits for an earlier one of its key, and was never tried
POINTER = "pointer-only"  # the disposition, or a part of it, of a letter without a body

Origin = tuple[str, int, int]  # topic, partition, offset


@dataclass(frozen=True)
class DeadLetter:
    """A record in a dead-letter topic; `known` holds its headers as text, the first value of each name."""

    record: Record
    known: dict[str, str]

    @classmethod
    def read(cls, record: Record) -> "DeadLetter":
        """Read a record of a dead-letter topic; whatever its bytes are, it is a letter."""
        pairs = reversed(list(record.headers))
        return cls(record, {k: v.decode(errors="backslashreplace") for k, v in pairs if v is not None})

    @property
    def id(self) -> str:
        """The same for every letter of the same record to the same group; its place when nobody gave it an id."""
        return self.known.get(headers.DLQ_ID) or f"{self.record.partition}-{self.record.offset}"

    @property
    def key(self) -> str | None:
        """The record's key as text."""
        return None if self.record.key is None else self.record.key.decode(errors="backslashreplace")

    @property
    def reason(self) -> str:
        """Why it is here, without the note that it is a pointer."""
        return self.known.get(headers.DISPOSITION, "").split(",")[0] or "unknown"

    @property
    def reasons(self) -> set[str]:
        """Every part of the disposition."""
        return set(self.known.get(headers.DISPOSITION, "unknown").split(","))

    @property
    def pointer(self) -> bool:
        """True when it was too large for a letter: its body is where it came from, and there is nothing to send."""
        return POINTER in self.reasons

    @property
    def redrives(self) -> int:
        """How often it has been sent back."""
        return _number(self.known.get(headers.REDRIVE_COUNT)) or 0

    @property
    def group(self) -> str:
        """The consumer group that gave it up; empty when the record is no letter of ours."""
        return self.known.get(headers.GROUP, "")

    @cached_property
    def origin(self) -> Origin | None:
        """Where the record was first; None when the record is no letter of ours."""
        topic = self.known.get(headers.ORIGIN_TOPIC)
        partition = _number(self.known.get(headers.ORIGIN_PARTITION))
        offset = _number(self.known.get(headers.ORIGIN_OFFSET))
        return (topic, partition, offset) if topic and partition is not None and offset is not None else None

    @property
    def last_failed(self) -> datetime:
        """When it failed last; when it was written, if it does not say so."""
        try:
            said = datetime.fromisoformat(self.known.get(headers.LAST_FAILED_AT, ""))
            return (said if said.tzinfo else said.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            return datetime.fromtimestamp(max(self.record.timestamp, 0) / 1000, UTC)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < MAX_DIGITS else None
