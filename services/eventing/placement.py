"""Where a span stands: the parent it continues and the spans it is linked to, read from what travels with an event."""

from datetime import UTC, datetime

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from eventing import attributes as at
from eventing.event import Event
from eventing.headers import DLQ_TRACEPARENT
from eventing.settings import settings

JOIN_WITHIN = 30.0  # seconds; an older first delivery starts a trace of its own, linked to its origin

_propagator = TraceContextTextMapPropagator()


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


def extracted(incoming: dict[str, str]) -> Context:
    """Return the context that the headers of a request continue."""
    return _propagator.extract(incoming)


def place(event: Event, origin: SpanContext | None, previous: SpanContext | None) -> tuple[Context, list[Link]]:
    """Return parent and links of a process span: the rows Process, Retried and Redriven of the table."""
    links = [Link(origin, {at.LINK_TYPE: "origin"})] if origin else []
    if previous:
        links.append(Link(previous, {at.LINK_TYPE: "retry"}))
    if event.retried:
        if hop := context_of(event.hop):
            links.append(Link(hop, {at.LINK_TYPE: "retry"}))
        return (below(origin) if origin and settings().trace_retries == "continue" else Context()), links
    if event.redrives and (hop := context_of(event.hop)):
        if dead := context_of(event.headers.get(DLQ_TRACEPARENT)):
            links.append(Link(dead, {at.LINK_TYPE: "dead_letter"}))
        return (below(hop), links) if previous is None else (Context(), links)
    age = (datetime.now(UTC) - event.time).total_seconds()
    joins = settings().trace_retries == "continue" or (previous is None and age < JOIN_WITHIN)
    return (below(origin) if origin and joins else Context()), links


def below(parent: SpanContext) -> Context:
    """Return a context in which `parent` is the current span."""
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())
