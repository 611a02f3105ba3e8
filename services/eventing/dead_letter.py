"""Dead letters: the record as it came, with why it could not be handled, in `<topic>.<group>.dlq`."""

import hashlib
import traceback
from datetime import UTC, datetime
from importlib.metadata import version

from eventing import headers, tracing
from eventing.clock import wall
from eventing.errors import SendFailed
from eventing.event import Event, Record, came_back
from eventing.lane import Entry
from eventing.outcome import Outcome
from eventing.port import Sender
from eventing.unreadable import Unreadable

POINTER = ",pointer-only"  # the letter has no body: its origin headers say where the bytes are
MAX_MESSAGE = 1024  # bytes of the error's message
VERSION = version("evenkeel")  # once: it is read from a file
MAX_STACK = 4096  # bytes of its traceback, the innermost part


def topic_of(topic: str, group: str) -> str:
    """Return the dead-letter topic of a group's subscription."""
    return f"{topic}.{group}.dlq"


def redrive_topic_of(topic: str, group: str) -> str:
    """Return the topic through which dead letters come back to this group alone."""
    return f"{topic}.{group}.redrive"


class DeadLetters:
    """Writes the dead letters of one group."""

    def __init__(self, sender: Sender, group: str) -> None:
        self._sender = sender
        self._group = group

    async def write(self, entry: Entry, event: Event | None, outcome: Outcome) -> None:
        """Write one dead letter: key and value untouched, headers kept, ours added; same partition.

        Raises:
            SendFailed: it is not written, and the record must not be passed over.
        """
        topic, partition, offset = origin(entry.record, event)
        target = topic_of(topic, self._group)
        known = _why(entry, event, outcome, self._group)
        event_id = event.id if event else f"{topic}-{partition}-{offset}"
        reason = known[headers.ERROR_TYPE].decode()
        with tracing.forwarded(target, event_id, self._group, reason, entry.previous) as hop:
            known |= {name: value.encode() for name, value in hop.items()}
            await self._send(target, partition, entry.record, known)

    async def _send(self, target: str, partition: int, record: Record, known: dict[str, bytes]) -> None:
        """Send the letter; one that is too large loses its stack, then its body, at last key and headers.

        The origin has them all.
        """
        original = list(record.headers)
        disposition = known[headers.DISPOSITION].removesuffix(POINTER.encode()) + POINTER.encode()
        short = known | {headers.ERROR_STACK: b""}
        pointer = short | {headers.DISPOSITION: disposition}
        for value, letter in ((record.value, known), (record.value, short), (b"", pointer)):
            try:
                everything = headers.replace(original, letter)
                return await self._sender.send(target, value, key=record.key, headers=everything, partition=partition)
            except SendFailed as error:
                if error.reason not in _TOO_LARGE:
                    raise
        return await self._sender.send(target, b"", key=None, headers=list(pointer.items()), partition=partition)


_PLACE = (headers.ORIGIN_TOPIC, headers.ORIGIN_PARTITION, headers.ORIGIN_OFFSET)
_TOO_LARGE = ("MessageSizeTooLargeError", "RecordListTooLargeError")


def origin(record: Record, event: Event | None) -> tuple[str, int, int]:
    """Return topic, partition and offset of the first delivery of a record; one that came back remembers them."""
    if event is not None:
        return event.topic, event.partition, event.offset
    topic, partition, offset = (headers.first(list(record.headers), name) or b"" for name in _PLACE)
    if came_back(record.topic, topic.decode(errors="replace")) and partition.isdigit() and offset.isdigit():
        return topic.decode(), int(partition), int(offset)
    return record.topic, record.partition, record.offset


def known_origin(record: Record, event: Event | None) -> dict[str, str]:
    """Return the headers by which a copy remembers the first delivery; one without an id keeps what was derived."""
    topic, partition, offset = origin(record, event)
    known = {
        headers.ORIGIN_TOPIC: topic,
        headers.ORIGIN_PARTITION: str(partition),
        headers.ORIGIN_OFFSET: str(offset),
        headers.ORIGIN_TIMESTAMP: str(_timestamp(record, topic)),
    }
    if event is not None:
        if not event.headers.get(headers.ID):
            known[headers.ID] = event.id
        if event.origin is None and event.hop:
            known[headers.ORIGIN_TRACEPARENT] = event.hop
    return known


def _why(entry: Entry, event: Event | None, outcome: Outcome, group: str) -> dict[str, bytes]:
    now = wall()
    error = outcome.error or RuntimeError("no error was given")
    known = known_origin(entry.record, event)
    place = "/".join(known[name] for name in _PLACE)
    known |= {
        headers.DLQ_ID: hashlib.sha256(f"{group}/{place}".encode()).hexdigest()[:32],
        headers.GROUP: group,
        headers.DISPOSITION: outcome.disposition + (POINTER if _is_pointer(entry.record) else ""),
        headers.ATTEMPT: str(event.attempt if event else entry.attempt),
        headers.ERROR_TYPE: type(error).__name__,
        headers.ERROR_MESSAGE: _cut(str(error), MAX_MESSAGE),
        headers.ERROR_CAUSE: _cut(repr(error.__cause__), MAX_MESSAGE) if error.__cause__ else "",
        headers.ERROR_STACK: _cut(_stack(error)[-MAX_STACK:], MAX_STACK),
        headers.FIRST_FAILED_AT: _first_failed(entry, event) or _iso(now),
        headers.LAST_FAILED_AT: _iso(now),
        headers.HANDLER_VERSION: VERSION,
    }
    return {name: value.encode() for name, value in known.items()}


def _stack(error: Exception) -> str:
    """Return the traceback without the marks below its lines: they cost a parse of each, and a fifth of the room."""
    told = [traceback.TracebackException.from_exception(error)]
    for one in told:
        told += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
        for frame in one.stack:
            frame.colno = None
    return "".join(told[0].format())


def _first_failed(entry: Entry, event: Event | None) -> str | None:
    """Return when it failed first: here, or before it came through a retry topic."""
    if event is not None and event.retried and (told := event.headers.get(headers.FIRST_FAILED_AT)):
        return told
    return _iso(entry.first_failed) if entry.first_failed else None


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _is_pointer(record: Record) -> bool:
    return isinstance(record, Unreadable) and record.pointer


def _timestamp(record: Record, origin: str) -> int:
    known = headers.first(list(record.headers), headers.ORIGIN_TIMESTAMP)
    redriven = came_back(record.topic, origin)
    return int(known) if redriven and known and known.isdigit() else record.timestamp


def _cut(text: str, limit: int) -> str:
    return text.encode(errors="backslashreplace")[:limit].decode(errors="ignore")
