"""A row of the outbox, and the record it becomes."""

import asyncpg

from eventing import headers
from eventing.headers import Headers

Key = tuple[str, str]  # aggregate type and id: the unit of order
Record = tuple[bytes, bytes, Headers]  # key, value, headers

_ALWAYS = ((headers.CONTENT_TYPE, b"application/json"), (headers.SPECVERSION, b"1.0"))
_OPTIONAL = (  # header and column
    (headers.DATASCHEMA, "dataschema"),
    (headers.CORRELATIONID, "correlationid"),
    (headers.CAUSATIONID, "causationid"),
    (headers.ORIGIN_TRACEPARENT, "traceparent"),
    (headers.TRACEPARENT, "traceparent"),
    (headers.TRACESTATE, "tracestate"),
)


def key_of(row: asyncpg.Record) -> Key:
    """Return the key whose order the row is part of."""
    return row["aggregatetype"], row["aggregateid"]


def record_of(row: asyncpg.Record) -> Record:
    """Return what is written to Kafka."""
    return row["aggregateid"].encode(), row["payload"], record_headers(row)


def record_headers(row: asyncpg.Record) -> Headers:
    """Return the CloudEvents headers of an outbox row, and its creation context as the first hop."""
    key = row["aggregateid"].encode()
    made = [
        *_ALWAYS,
        (headers.ID, str(row["id"]).encode()),
        (headers.SOURCE, row["source"].encode()),
        (headers.TYPE, row["type"].encode()),
        (headers.SUBJECT, key),
        (headers.TIME, row["created_at"].isoformat().encode()),
        (headers.PARTITIONKEY, key),
        (headers.AGGREGATEVERSION, b"%d" % row["aggregateversion"]),
    ]
    for name, column in _OPTIONAL:
        if value := row[column]:
            made.append((name, value.encode()))
    if expires := row["expirytime"]:
        made.append((headers.EXPIRYTIME, expires.isoformat().encode()))
    return made
