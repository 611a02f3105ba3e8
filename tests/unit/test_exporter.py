"""A dead collector costs its spans, every one of them counted; exemplars lead from a bucket to a trace."""

import socket

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest

from eventing.exporter import export
from eventing.metrics import SPANS_DROPPED
from eventing.plain_metrics import Distributions


@pytest.fixture
def nobody():
    """Return an address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}/v1/traces"


def dropped():
    return SPANS_DROPPED._value.get()


def end_spans(provider, count):
    tracer = provider.get_tracer("test")
    for _ in range(count):
        tracer.start_span("lost").end()
    provider.shutdown()


@pytest.mark.parametrize("count", [3, 7_000], ids=["that waited", "that overflowed the queue too"])
def test_spans_that_reach_nobody_are_counted(nobody, count):
    provider, before = TracerProvider(shutdown_on_exit=False), dropped()
    export(provider, OTLPSpanExporter(endpoint=nobody, timeout=0.1))
    end_spans(provider, count)
    assert dropped() - before == count


def test_spans_that_are_not_sampled_are_not_lost(nobody):
    provider, before = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False), dropped()
    export(provider, OTLPSpanExporter(endpoint=nobody, timeout=0.1))
    end_spans(provider, 3)
    assert dropped() == before


def test_a_bucket_shows_the_last_trace_that_fell_into_it():
    registry = CollectorRegistry()
    durations = Distributions("d", "Durations.", ["group"], (1.0, 2.0))
    registry.register(durations)
    found = durations.of("g")
    for value, trace in ((0.5, None), (1.5, "aa"), (1.6, "bb")):
        found.observe(value, trace)
    lines = generate_latest(registry).decode().splitlines()
    told = {line.split("{")[1].split("}")[0]: line for line in lines if line.startswith("d_bucket")}
    assert '# {trace_id="bb"} 1.6' in told['group="g",le="2.0"']
    assert "#" not in told['group="g",le="1.0"'] + told['group="g",le="+Inf"']
    counts = [line.split("}")[1].split()[0] for line in told.values()]
    assert counts == ["1.0", "3.0", "3.0"]
