"""Spans → collector; one that is dead costs its spans, which are counted, and nothing else."""

import logging
import os
import threading
from collections.abc import Sequence

import structlog
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from eventing.metrics import SPANS_DROPPED

log = structlog.get_logger()


def export(provider: TracerProvider, exporter: SpanExporter) -> None:
    """Send the spans of `provider` in batches, from a thread of their own; what does not fit waits nowhere."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it repeats per batch what is counted and said once
    capacity = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", "2048"))
    counted = Counted(exporter)
    provider.add_span_processor(Bounded(BatchSpanProcessor(counted, max_queue_size=capacity), counted, capacity))


class Counted(SpanExporter):
    """An exporter that counts what it could not hand over, and says when that begins and ends."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.taken = 0  # spans that have left the queue
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand spans over, within the exporter's own timeout."""
        self.taken += len(spans)
        result = self._exporter.export(spans)
        failing = result is not SpanExportResult.SUCCESS
        if failing:
            SPANS_DROPPED.inc(len(spans))
        if failing != self._failing:
            log.warning("spans_dropped" if failing else "spans_arrive_again")
        self._failing = failing
        return result

    def shutdown(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()


class Bounded(SpanProcessor):
    """A batch processor that is given no more than its queue holds; it would drop silently. The rest is counted."""

    def __init__(self, batches: BatchSpanProcessor, exporter: Counted, capacity: int) -> None:
        self._batches = batches
        self._exporter = exporter
        self._capacity = capacity
        self._given = 0
        self._one_at_a_time = threading.Lock()  # handlers that are plain functions end spans in threads

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span, or count it as dropped."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        with self._one_at_a_time:
            full = self._given - self._exporter.taken >= self._capacity
            self._given += not full
        if full:
            SPANS_DROPPED.inc()
        else:
            self._batches.on_end(span)

    def shutdown(self) -> None:
        """Export what waits, then close the exporter."""
        self._batches.shutdown()  # type: ignore[no-untyped-call]  # the SDK annotates it not

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what waits now."""
        return self._batches.force_flush(timeout_millis)
