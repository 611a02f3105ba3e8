"""The spans of an event's way: one function per row of the table, in the order of the flow.

Two contexts travel with an event: where it was created (`ce_traceparent`, never changed) and its last hop
(`traceparent`, replaced by every hop). Spans carry no payload, no address and no key. Exceptions are logged
once and never recorded on spans (semantic conventions, `docs/exceptions`).
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from eventing import attributes as at
from eventing.event import Event
from eventing.headers import DLQ_TRACEPARENT, REDRIVE_ID
from eventing.settings import settings

JOIN_WITHIN = 30.0  # seconds; an older first delivery starts a trace of its own, linked to its origin
MAX_LINKS = 128  # the SDK drops links beyond this

_tracer = trace.get_tracer("eventing")
_propagator = TraceContextTextMapPropagator()
_handled: ContextVar[Event | None] = ContextVar("handled_event", default=None)


def configure() -> TracerProvider:
    """Install the tracer provider; spans leave by OTLP when OTEL_EXPORTER_OTLP_ENDPOINT is set.

    Call after the process has forked, if it forks: the exporter's thread does not survive a fork.
    """
    provider = TracerProvider(resource=Resource.create({"service.name": settings().service}))
    if exporting():
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # 0.2 s

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


@cache
def exporting() -> bool:
    """True when spans leave this process; otherwise an event's way is not traced, which costs nothing."""
    return bool({"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} & os.environ.keys())


def story() -> tuple[str | None, str | None]:
    """Return correlation id and causation id for an event added now: those of the event being handled, if any."""
    event = _handled.get()
    return (event.correlation_id, event.id) if event else (None, None)


def carrier(span: Span) -> dict[str, str]:
    """Return the W3C headers that continue `span`."""
    headers: dict[str, str] = {}
    _propagator.inject(headers, trace.set_span_in_context(span))
    return headers


def context_of(traceparent: str | None, tracestate: str | None = None) -> SpanContext | None:
    """Return the context a traceparent names, None when absent or malformed."""
    if not traceparent:
        return None
    found = trace.get_current_span(_propagator.extract({"traceparent": traceparent, "tracestate": tracestate or ""}))
    context = found.get_span_context()
    return context if context.is_valid else None


@contextmanager
def request(method: str, incoming: dict[str, str]) -> Iterator[Span]:
    """Span of an HTTP request; the caller sets name, route and status once they are known."""
    with _span(method, SpanKind.SERVER, {at.HTTP_METHOD: method}, parent=_propagator.extract(incoming)) as span:
        yield span


@contextmanager
def created(topic: str, event_id: str, event_type: str) -> Iterator[dict[str, str]]:
    """Span of the outbox insert: the creation context, stored in the row; yields its W3C headers."""
    known = {at.MESSAGE_ID: event_id, at.EVENT_ID: event_id, at.EVENT_TYPE: event_type}
    with _span(f"create {topic}", SpanKind.PRODUCER, _messaging(topic, "create", "create") | known) as span:
        yield carrier(span)


@contextmanager
def relayed(topic: str, origins: Sequence[tuple[str, str | None]]) -> Iterator[None]:
    """Span of a relay's sends to a topic; ends after the acknowledgements. `origins`: (event id, traceparent)."""
    links = [
        Link(context, {at.MESSAGE_ID: event_id})
        for event_id, traceparent in origins
        if (context := context_of(traceparent))
    ]
    known = _messaging(topic, "send", "send") | {at.BATCH_COUNT: len(origins)}
    with _span(f"send {topic}", SpanKind.CLIENT, known, parent=Context(), links=links):
        yield


@contextmanager
def processed(
    event: Event, *, topic: str, partition: int, offset: int, group: str, previous: SpanContext | None
) -> Iterator[Span]:
    """Span of one attempt at an event.

    Args:
        event: what is handled; its origin is always linked.
        topic: where this delivery was read, with `partition` and `offset`.
        partition: see topic.
        offset: see topic.
        group: the consumer group.
        previous: span of the attempt before this one, None at the first.
    """
    origin = context_of(event.origin)
    parent, links = _place(event, origin, previous)
    known = _messaging(topic, "process", "process") | {
        at.PARTITION: str(partition), at.OFFSET: offset, at.GROUP: group, at.MESSAGE_ID: event.id,
        at.EVENT_ID: event.id, at.EVENT_TYPE: event.type, at.EVENT_SOURCE: event.source, at.ATTEMPT: event.attempt,
    }  # fmt: skip
    if event.correlation_id:
        known[at.CONVERSATION_ID] = event.correlation_id
    if event.redrives:
        known |= {at.REDRIVE_COUNT: event.redrives, at.REDRIVE_ID: event.headers.get(REDRIVE_ID, "")}
    with handling(event), _span(f"process {topic}", SpanKind.CONSUMER, known, parent=parent, links=links) as span:
        yield span


@contextmanager
def processed_batch(events: Sequence[Event], group: str) -> Iterator[None]:
    """Span of one call of a batch handler: a root of its own, linked to the origin of each event."""
    if not exporting():
        yield
        return
    topic = events[0].topic
    links = [
        Link(context, {at.LINK_TYPE: "origin", at.MESSAGE_ID: event.id})
        for event in events[:MAX_LINKS]
        if (context := context_of(event.origin))
    ]
    known = _messaging(topic, "process", "process") | {at.GROUP: group, at.BATCH_COUNT: len(events)}
    with _span(f"process {topic}", SpanKind.CONSUMER, known, parent=Context(), links=links):
        yield


class handling:  # noqa: N801  # a context manager; a generator would cost three times as much on the hottest path
    """Make `event` the cause of events that are added while the block runs."""

    __slots__ = ("_event", "_token")

    def __init__(self, event: Event) -> None:
        self._event = event

    def __enter__(self) -> None:
        self._token = _handled.set(self._event)

    def __exit__(self, *_: object) -> None:
        _handled.reset(self._token)


def _place(event: Event, origin: SpanContext | None, previous: SpanContext | None) -> tuple[Context, list[Link]]:
    """Decide parent and links of a process span: the rows Process, Retried and Redriven of the table."""
    links = [Link(origin, {at.LINK_TYPE: "origin"})] if origin else []
    if previous:
        links.append(Link(previous, {at.LINK_TYPE: "retry"}))
    if event.retried:
        if hop := context_of(event.hop):
            links.append(Link(hop, {at.LINK_TYPE: "retry"}))
        return (_below(origin) if origin and settings().trace_retries == "continue" else Context()), links
    if event.redrives and (hop := context_of(event.hop)):
        if dead := context_of(event.headers.get(DLQ_TRACEPARENT)):
            links.append(Link(dead, {at.LINK_TYPE: "dead_letter"}))
        return (_below(hop), links) if previous is None else (Context(), links)
    age = (datetime.now(UTC) - event.time).total_seconds()
    joins = settings().trace_retries == "continue" or (previous is None and age < JOIN_WITHIN)
    return (_below(origin) if origin and joins else Context()), links


def _below(parent: SpanContext) -> Context:
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())


@contextmanager
def forwarded(
    topic: str, event_id: str, group: str, reason: str, attempt: SpanContext | None
) -> Iterator[dict[str, str]]:
    """Span of sending a dead letter or a retry, below the failed attempt; yields the W3C headers of this hop."""
    parent = _below(attempt) if attempt else Context()
    known = _messaging(topic, "send", "send") | {
        at.MESSAGE_ID: event_id,
        at.GROUP: group,
        at.ERROR_TYPE: reason,
    }
    with _span(f"send {topic}", SpanKind.PRODUCER, known, parent=parent) as span:
        yield carrier(span)


@contextmanager
def redriving(topic: str, redrive_id: str) -> Iterator[None]:
    """Span of one redrive, above the sends it makes."""
    with _span(
        f"redrive {topic}",
        SpanKind.INTERNAL,
        _messaging(topic, "redrive", "send") | {at.REDRIVE_ID: redrive_id},
    ):
        yield


@contextmanager
def redriven(
    topic: str, event_id: str, redrive_id: str, dead: str | None, origin: str | None
) -> Iterator[dict[str, str]]:
    """Span of sending one dead letter back, linked to its dead letter and its origin; yields the hop's headers."""
    named = (("dead_letter", context_of(dead)), ("origin", context_of(origin)))
    links = [Link(context, {at.LINK_TYPE: kind}) for kind, context in named if context]
    known = _messaging(topic, "send", "send") | {at.MESSAGE_ID: event_id, at.REDRIVE_ID: redrive_id}
    with _span(f"send {topic}", SpanKind.PRODUCER, known, links=links) as span:
        yield carrier(span)


@contextmanager
def committing(topic: str, group: str, highest: int) -> Iterator[None]:
    """Span of an offset commit, with the highest offset committed."""
    known = _messaging(topic, "commit", "settle") | {at.GROUP: group, at.OFFSET: highest}
    with _span(f"commit {topic}", SpanKind.CLIENT, known, parent=Context()):
        yield


@contextmanager
def effect(name: str, **known: str | int) -> Iterator[Span]:
    """Span of an effect on something outside: a transaction, a mail, a cache entry."""
    with _span(name, SpanKind.CLIENT, {at.EFFECT: name, **known}) as span:
        yield span


def failed(span: Span, error_type: str) -> None:
    """Mark a span as failed with a low-cardinality error type."""
    span.set_attribute(at.ERROR_TYPE, error_type)
    span.set_status(Status(StatusCode.ERROR, error_type))


def _messaging(topic: str, operation: str, kind: str) -> dict[str, Any]:
    host, _, port = settings().kafka_bootstrap.split(",")[0].rpartition(":")
    return {
        at.SYSTEM: "kafka", at.OPERATION_NAME: operation, at.OPERATION_TYPE: kind, at.DESTINATION: topic,
        at.SERVER_ADDRESS: host, at.SERVER_PORT: int(port) if port.isdigit() else 9092,
    }  # fmt: skip


@contextmanager
def _span(
    name: str,
    kind: SpanKind,
    known: dict[str, Any],
    *,
    parent: Context | None = None,
    links: Sequence[Link] = (),
) -> Iterator[Span]:
    """Open a span whose attributes are set at creation, since samplers see nothing later."""
    with _tracer.start_as_current_span(
        name,
        context=parent,
        kind=kind,
        attributes=known,
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            failed(span, type(error).__name__)
            raise
