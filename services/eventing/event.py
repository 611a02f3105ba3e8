"""The envelope: one event as it travels, CloudEvents 1.0 in Kafka's binary mode; structured mode is understood.

Our own and not the `cloudevents` package because every consumed record passes here (the package is about ten
times slower, and it knows nothing of a record's place); tests read our records with that package and the
other way round.
"""

import base64
import builtins
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from eventing import contract, headers
from eventing.contract import Contract
from eventing.errors import BadRecord

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # in no attribute (CloudEvents 1.0, type system)
MAX_DIGITS = 19  # of a number in a header: fewer always fit into PostgreSQL's bigint


class Record(Protocol):
    """What we read of a client's consumed record; key, value and header values are raw bytes."""

    @property
    def topic(self) -> str: ...  # noqa: D102
    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def timestamp(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...  # noqa: D102


@dataclass(slots=True)
class Event:
    """One event and where it was read.

    `version` is the aggregate's version, None when the producer named none. `time` is when it happened (the
    record's timestamp when the producer named none). `topic`, `partition`, `offset` are those of the first
    delivery, also for a record that was redriven or came through a retry topic (`retried`), where it may have to
    wait until `not_before` (seconds since the epoch). `attempt` counts from 1; `redrives` counts redrives so far.
    Not frozen, because a frozen dataclass costs three times as much to make, and every consumed record makes one.
    """

    id: str
    type: str
    source: str
    key: str
    data: bytes
    time: datetime
    topic: str
    partition: int
    offset: int
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    version: int | None = None
    expires: datetime | None = None
    redrives: int = 0
    attempt: int = 1
    retried: bool = False
    not_before: float | None = None

    @property
    def correlation_id(self) -> str | None:
        """The id of the story this event belongs to."""
        return self.headers.get(headers.CORRELATIONID)

    @property
    def causation_id(self) -> str | None:
        """The id of the event whose handler added this one."""
        return self.headers.get(headers.CAUSATIONID)

    @property
    def origin(self) -> str | None:
        """The traceparent of its creation; a foreign producer names only the hop, which is the same at first."""
        found = self.headers.get(headers.ORIGIN_TRACEPARENT)
        return found if found or self.redrives or self.retried else self.headers.get(headers.TRACEPARENT)

    @property
    def hop(self) -> str | None:
        """The traceparent of its last hop."""
        return self.headers.get(headers.TRACEPARENT)

    @property
    def leader(self) -> str | None:
        """The traceparent that decides whether it is traced: its last hop's once it came back, else its creation's."""
        return (self.hop or self.origin) if self.redrives or self.retried else self.origin

    def json(self) -> Any:
        """Return the body, parsed.

        Raises:
            BadRecord: the body is not JSON.
        """
        try:
            return json.loads(self.data)
        except (ValueError, RecursionError) as error:
            raise BadRecord(f"the body is not JSON: {error}") from None

    @property
    def contract(self) -> "builtins.type[Contract] | None":
        """The contract of this event, None when unknown here."""
        return contract.find(self.type)

    @classmethod
    def read(cls, record: Record) -> "Event":
        """Read a consumed record; see integrity rules for records without CloudEvents headers.

        Raises:
            BadRecord: naming the header or the part of the body that cannot be read.
        """
        if record.value is None:
            raise BadRecord("the body is null; a deletion is an event with a body, not a tombstone")
        attributes = _text(record.headers)
        if attributes.get(headers.CONTENT_TYPE, "").startswith(headers.STRUCTURED):
            return _structured(record, attributes, record.value)
        if headers.SPECVERSION not in attributes:
            return _bare(record, attributes, record.value)
        return _binary(record, attributes, record.value)


def _text(pairs: Sequence[tuple[str, bytes]]) -> dict[str, str]:
    """Decode headers, keeping the first of a repeated name, as other Kafka clients do."""
    try:
        return {name: value.decode() for name, value in reversed(pairs)}
    except (UnicodeDecodeError, AttributeError):
        return _text_with_care(pairs)


def _text_with_care(pairs: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    """Decode headers of which one is null, or names the one that is not UTF-8."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            continue
        try:
            found[name] = value.decode() if value is not None else ""
        except UnicodeDecodeError:
            raise BadRecord(f"header {name} is not UTF-8") from None
    return found


def _binary(record: Record, at: dict[str, str], body: bytes) -> Event:
    id_, type_, source = at.get(headers.ID), at.get(headers.TYPE), at.get(headers.SOURCE)
    if not (id_ and type_ and source and (id_ + type_ + source).isprintable()):
        _check_required(at)
    if at[headers.SPECVERSION] != "1.0":
        raise BadRecord(f"header {headers.SPECVERSION} is {at[headers.SPECVERSION]!r}; only 1.0 is understood")
    return _event(record, at, body, at[headers.ID], at[headers.TYPE], at[headers.SOURCE])


def _check_required(at: dict[str, str]) -> None:
    for name in (headers.ID, headers.TYPE, headers.SOURCE):
        if not at.get(name):
            raise BadRecord(f"header {name} is missing; CloudEvents requires it")
        if _CONTROL.search(at[name]):
            raise BadRecord(f"header {name} is {at[name][:40]!r}; CloudEvents allows no control characters")


def _structured(record: Record, at: dict[str, str], body: bytes) -> Event:
    """Read CloudEvents' structured mode: the body is an envelope of attributes around the data."""
    try:
        envelope = json.loads(body)
        known = {f"ce_{name}": str(value) for name, value in envelope.items() if name not in ("data", "data_base64")}
        "".join(known.values()).encode()  # JSON may hold half a surrogate pair, which no database and no header takes
        encoded = envelope.get("data_base64")
        data = (
            json.dumps(envelope.get("data")).encode() if encoded is None else base64.b64decode(encoded, validate=True)
        )
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadRecord(f"the body is no structured CloudEvent: {error}") from None
    return _binary(record, {headers.SPECVERSION: ""} | known | at, data)


def _bare(record: Record, at: dict[str, str], body: bytes) -> Event:
    """Read a foreign record: type from `action`, id from its place (which a redriven copy remembers)."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"the body is not JSON: {error}") from None
    action = data.get("action") if isinstance(data, dict) else None
    if not isinstance(action, str) or not action or _CONTROL.search(action):
        raise BadRecord("the body has no 'action' and the record has no CloudEvents headers: its type is unknown")
    topic, partition, offset = _origin(record, at)
    known = contract.find_action(topic, action)
    return _event(
        record,
        at,
        body,
        at.get(headers.ID) or f"{topic}-{partition}-{offset}",
        known.event_type if known else action,
        f"kafka:{topic}",
        str(data[_alias(known)]) if known and _alias(known) in data else None,
    )


def _alias(known: type[Contract]) -> str:
    return known.model_fields[known.key_field].alias or known.key_field


def _event(
    record: Record,
    at: dict[str, str],
    body: bytes,
    id_: str,
    type_: str,
    source: str,
    key: str | None = None,
) -> Event:
    topic, partition, offset = record.topic, record.partition, record.offset
    if headers.ORIGIN_TOPIC in at:
        topic, partition, offset = _origin(record, at)
    key = key or at.get(headers.PARTITIONKEY) or _key(record.key)
    time = _time(at, headers.TIME) or _received(record, at)
    version = _number(at, headers.AGGREGATEVERSION)
    event = Event(id_, type_, source, key, body, time, topic, partition, offset, at, version)
    if headers.EXPIRYTIME in at:
        event.expires = _time(at, headers.EXPIRYTIME)
    if headers.REDRIVE_COUNT in at:
        event.redrives = _number(at, headers.REDRIVE_COUNT) or 0
    if topic != record.topic and RETRY in record.topic:
        _from_retry_topic(event, at)
    return event


def _from_retry_topic(event: Event, at: dict[str, str]) -> None:
    """Count on from the attempts made before, and take over when the next one is due."""
    due = _time(at, headers.NOT_BEFORE)
    event.retried, event.attempt = True, (_number(at, headers.ATTEMPT) or 0) + 1
    event.not_before = due.timestamp() if due else None


REDRIVE, RETRY = ".redrive", ".retry."


def came_back(topic: str, origin: str) -> bool:
    """Tell whether a record of `topic` may claim to come from `origin`: elsewhere, anybody may write `x-origin-*`."""
    if not origin or not topic.startswith(f"{origin}."):
        return False
    return topic.endswith(REDRIVE) or RETRY in topic[len(origin) :]


def _origin(record: Record, at: dict[str, str]) -> tuple[str, int, int]:
    if not came_back(record.topic, at.get(headers.ORIGIN_TOPIC, "")):
        return record.topic, record.partition, record.offset
    return (
        at[headers.ORIGIN_TOPIC],
        _number(at, headers.ORIGIN_PARTITION) or 0,
        _number(at, headers.ORIGIN_OFFSET) or 0,
    )


def _received(record: Record, at: dict[str, str]) -> datetime:
    redriven = came_back(record.topic, at.get(headers.ORIGIN_TOPIC, ""))
    milliseconds = (_number(at, headers.ORIGIN_TIMESTAMP) if redriven else None) or record.timestamp
    return datetime.fromtimestamp(max(milliseconds, 0) / 1000, UTC)


def _key(key: bytes | None) -> str:
    return "" if key is None else key.decode(errors="backslashreplace")


def _number(at: dict[str, str], name: str) -> int | None:
    if name not in at:
        return None
    text = at[name]
    if not (text.isascii() and text.isdigit() and len(text) < MAX_DIGITS):
        raise BadRecord(f"header {name} is {text[:40]!r}, not a number")
    return int(text)


def _time(at: dict[str, str], name: str) -> datetime | None:
    if name not in at:
        return None
    try:
        moment = datetime.fromisoformat(at[name])
        if moment.tzinfo is UTC:
            return moment
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRecord(f"header {name} is {at[name][:40]!r}, not an RFC 3339 time") from None
