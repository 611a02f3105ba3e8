"""What unit tests share."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from eventing import tracing


@pytest.fixture
def spans(monkeypatch):
    """Trace everything, in memory; returns a function that returns the spans that have ended."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    monkeypatch.setattr(tracing, "_sampling", None)
    monkeypatch.setattr(tracing, "exporting", lambda: True)
    return exporter.get_finished_spans
