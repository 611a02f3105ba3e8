"""Spans → collector; one that is dead costs its spans, which are counted, and nothing else."""

import logging
import os
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
    provider.add_span_processor(Overflow(counted, capacity))
    provider.add_span_processor(BatchSpanProcessor(counted, max_queue_size=capacity))


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


class Overflow(SpanProcessor):
    """Counts spans that found the queue full: more have ended than were taken and than the queue holds."""

    def __init__(self, exporter: Counted, capacity: int) -> None:
        self._exporter = exporter
        self._capacity = capacity
        self._ended = self._lost = 0

    def on_end(self, span: ReadableSpan) -> None:
        """Count a span before it is put into the queue."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        self._ended += 1
        lost = self._ended - self._exporter.taken - self._capacity
        if lost > self._lost:
            SPANS_DROPPED.inc(lost - self._lost)
            self._lost = lost
