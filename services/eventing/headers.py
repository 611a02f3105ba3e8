"""The names of every Kafka header we write or read, and nothing else.

Names: CloudEvents 1.0 Kafka binding, binary mode (`ce_*`); W3C Trace Context for the hop; `x-*` are our own
and single-valued: a writer replaces them.
"""

CONTENT_TYPE = "content-type"
STRUCTURED = "application/cloudevents+json"

SPECVERSION = "ce_specversion"
ID = "ce_id"
SOURCE = "ce_source"
TYPE = "ce_type"
SUBJECT = "ce_subject"
TIME = "ce_time"
DATASCHEMA = "ce_dataschema"
PARTITIONKEY = "ce_partitionkey"
AGGREGATEVERSION = "ce_aggregateversion"
CORRELATIONID = "ce_correlationid"
CAUSATIONID = "ce_causationid"
EXPIRYTIME = "ce_expirytime"
DATACLASSIFICATION = "ce_dataclassification"
ORIGIN_TRACEPARENT = "ce_traceparent"

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

ATTEMPT = "x-attempt"
NOT_BEFORE = "x-not-before"
ORIGIN_TOPIC = "x-origin-topic"
ORIGIN_PARTITION = "x-origin-partition"
ORIGIN_OFFSET = "x-origin-offset"
ORIGIN_TIMESTAMP = "x-origin-timestamp"
GROUP = "x-group"
DLQ_ID = "x-dlq-id"
DLQ_TRACEPARENT = "x-dlq-traceparent"  # of a redriven record: the span of its dead letter
DISPOSITION = "x-disposition"
ERROR_TYPE = "x-error-type"
ERROR_MESSAGE = "x-error-message"
ERROR_CAUSE = "x-error-cause"
ERROR_STACK = "x-error-stack"
FIRST_FAILED_AT = "x-first-failed-at"
LAST_FAILED_AT = "x-last-failed-at"
HANDLER_VERSION = "x-handler-version"
REDRIVE_ID = "x-redrive-id"
REDRIVE_COUNT = "x-redrive-count"

Headers = list[tuple[str, bytes]]


def first(headers: Headers, name: str) -> bytes | None:
    """Return the first value under `name`, or None; what Kafka clients in other languages also read."""
    for key, value in headers:
        if key == name:
            return value
    return None


def replace(headers: Headers, changes: dict[str, bytes]) -> Headers:
    """Return `headers` with every name of `changes` present once and the rest untouched, in order."""
    return [(k, v) for k, v in headers if k not in changes] + list(changes.items())
