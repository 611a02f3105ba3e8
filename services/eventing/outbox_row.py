"""A row of the outbox, and the record it becomes."""

import asyncpg

from eventing import headers
from eventing.headers import Headers

Key = tuple[str, str]  # aggregate type and id: the unit of order
Record = tuple[bytes, bytes, Headers]  # key, value, headers


def key_of(row: asyncpg.Record) -> Key:
    """Return the key whose order the row is part of."""
    return row["aggregatetype"], row["aggregateid"]


def record_of(row: asyncpg.Record) -> Record:
    """Return what is written to Kafka."""
    return row["aggregateid"].encode(), row["payload"], record_headers(row)


def record_headers(row: asyncpg.Record) -> Headers:
    """Return the CloudEvents headers of an outbox row, and its creation context as the first hop."""
    named = {
        headers.CONTENT_TYPE: "application/json",
        headers.SPECVERSION: "1.0",
        headers.ID: str(row["id"]),
        headers.SOURCE: row["source"],
        headers.TYPE: row["type"],
        headers.SUBJECT: row["aggregateid"],
        headers.TIME: row["created_at"].isoformat(),
        headers.DATASCHEMA: row["dataschema"],
        headers.PARTITIONKEY: row["aggregateid"],
        headers.AGGREGATEVERSION: str(row["aggregateversion"]),
        headers.CORRELATIONID: row["correlationid"],
        headers.CAUSATIONID: row["causationid"],
        headers.EXPIRYTIME: row["expirytime"].isoformat() if row["expirytime"] else None,
        headers.ORIGIN_TRACEPARENT: row["traceparent"],
        headers.TRACEPARENT: row["traceparent"],
        headers.TRACESTATE: row["tracestate"],
    }
    return [(name, value.encode()) for name, value in named.items() if value]
