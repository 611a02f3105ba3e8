"""The spans of an event's way: one function per row of the table, in the order of the flow.

Two contexts travel with an event: where it was created (`ce_traceparent`, never changed) and its last hop
(`traceparent`, replaced by every hop). Spans carry no payload, no address and no key. Exceptions are logged
once and never recorded on spans (semantic conventions, `docs/exceptions`).
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from types import MappingProxyType
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from eventing import attributes as at
from eventing.event import Event
from eventing.exporter import export
from eventing.headers import REDRIVE_ID
from eventing.placement import carrier, context_of, extracted, place
from eventing.sampling import Ids, Sampling, Unsampled
from eventing.settings import settings

MAX_LINKS = 128  # the SDK drops links beyond this

_tracer = trace.get_tracer("eventing")
_sampling: Sampling | None = None  # as `configure` finds it
CAUSE: ContextVar[Event | None] = ContextVar("cause", default=None)  # the event that is being handled


def configure() -> TracerProvider:
    """Install the tracer provider; spans leave by OTLP when OTEL_EXPORTER_OTLP_ENDPOINT is set.

    Call after the process has forked, if it forks: the exporter's thread does not survive a fork.
    """
    global _sampling  # noqa: PLW0603  # there is one tracer provider in a process
    ids = Ids()
    provider = TracerProvider(resource=Resource.create({"service.name": settings().service}), id_generator=ids)
    _sampling = Sampling(provider, ids)
    if exporting():
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # 0.2 s

        export(provider, OTLPSpanExporter())
    trace.set_tracer_provider(provider)
    return provider


@cache
def exporting() -> bool:
    """True when spans leave this process; otherwise an event's way is not traced, which costs nothing."""
    return bool({"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} & os.environ.keys())


def story() -> tuple[str | None, str | None]:
    """Return correlation id and causation id for an event added now: those of the event being handled, if any."""
    event = CAUSE.get()
    return (event.correlation_id, event.id) if event else (None, None)


@contextmanager
def request(method: str, incoming: dict[str, str]) -> Iterator[Span]:
    """Span of an HTTP request; the caller sets name, route and status once they are known."""
    with _span(method, SpanKind.SERVER, {at.HTTP_METHOD: method}, parent=extracted(incoming)) as span:
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
    if not exporting():
        yield
        return
    known = _messaging(topic, "send", "send") | {at.BATCH_COUNT: len(origins)}
    with _linked(f"send {topic}", SpanKind.CLIENT, known, origins, {}):
        yield


def processed(
    event: Event, *, topic: str, partition: int, offset: int, written: int, group: str, previous: Span | None
) -> AbstractContextManager[Span]:
    """Span of one attempt at an event.

    Args:
        event: what is handled; its origin is always linked.
        topic: where this delivery was read, with `partition` and `offset`.
        partition: see topic.
        offset: see topic.
        written: when the record was written there, in milliseconds since the epoch.
        group: the consumer group.
        previous: span of the attempt before this one, None at the first.
    """
    name, leader = f"process {topic}", event.leader
    if isinstance(previous, Unsampled) or (previous is None and _drops(leader, name)):
        return _Untraced(leader)
    known = _messaging(topic, "process", "process") | {
        at.PARTITION: str(partition), at.OFFSET: offset, at.GROUP: group, at.MESSAGE_ID: event.id,
        at.EVENT_ID: event.id, at.EVENT_TYPE: event.type, at.EVENT_SOURCE: event.source, at.ATTEMPT: event.attempt,
        at.OUTBOX_DELAY: max(0, written - int(event.time.timestamp() * 1000)),
        at.BROKER_DELAY: max(0, int(time.time() * 1000) - written),
    }  # fmt: skip
    if event.correlation_id:
        known[at.CONVERSATION_ID] = event.correlation_id
    if event.redrives:
        known |= {at.REDRIVE_COUNT: event.redrives, at.REDRIVE_ID: event.headers.get(REDRIVE_ID, "")}
    return _traced(event, name, known, previous.get_span_context() if previous else None)


@contextmanager
def _traced(event: Event, name: str, known: dict[str, Any], previous: SpanContext | None) -> Iterator[Span]:
    parent, links = place(event, context_of(event.origin), previous)
    with _span(name, SpanKind.CONSUMER, known, parent=parent, links=links) as span:
        yield span


@contextmanager
def processed_batch(events: Sequence[Event], group: str) -> Iterator[None]:
    """Span of one call of a batch handler: a root of its own, linked to the origin of each event."""
    if not exporting():
        yield
        return
    topic = events[0].topic
    known = _messaging(topic, "process", "process") | {at.GROUP: group, at.BATCH_COUNT: len(events)}
    origins = [(event.id, event.leader) for event in events]
    with _linked(f"process {topic}", SpanKind.CONSUMER, known, origins, {at.LINK_TYPE: "origin"}):
        yield


@contextmanager
def _linked(
    name: str, kind: SpanKind, known: dict[str, Any], origins: Sequence[tuple[str, str | None]], about: dict[str, str]
) -> Iterator[Span]:
    """Open a root linked to where its events were created, as far as they are traced; none when none of them is."""
    led = [(event_id, leader) for event_id, leader in origins if leader]
    traced = [(event_id, leader) for event_id, leader in led if not _drops(leader, name)]
    if led and not traced:
        with trace.use_span(Unsampled(led[0][1])) as span:
            yield span
        return
    links = [
        Link(context, {at.MESSAGE_ID: event_id} | about)
        for event_id, leader in traced[:MAX_LINKS]
        if (context := context_of(leader))
    ]
    with _span(name, kind, known, parent=Context(), links=links) as span:
        yield span


def _drops(leader: str | None, name: str) -> bool:
    return _sampling is not None and _sampling.drops(leader, name)


class _Untraced:
    """Around an event that is not sampled: what is done for it is not sampled either."""

    __slots__ = ("_attached", "_span")

    def __init__(self, leader: str | None) -> None:
        self._span = Unsampled(leader)

    def __enter__(self) -> Span:
        self._attached = attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(self, *_: object) -> None:
        detach(self._attached)


@contextmanager
def forwarded(topic: str, event_id: str, group: str, reason: str, attempt: Span | None) -> Iterator[dict[str, str]]:
    """Span of sending a dead letter or a retry, below the failed attempt; yields the W3C headers of this hop."""
    parent = trace.set_span_in_context(attempt, Context()) if attempt else Context()
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
def effect(name: str, known: Mapping[str, str] = MappingProxyType({})) -> Iterator[Span]:
    """Span of an effect on something outside: a transaction, a mail, a cache entry."""
    if not exporting():
        yield trace.INVALID_SPAN
        return
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
    above = trace.get_current_span(parent)
    if isinstance(above, Unsampled):
        yield above
        return
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
