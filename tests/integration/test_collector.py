"""A real collector takes both configurations, and keeps of the cluster's traces those that somebody will ask for."""

import asyncio
import os

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import StatusCode

from workbench import collector as build
from workbench.collector import HERE, Collector

MANY = 400


@pytest.fixture
def binary(lacking):
    return build.find() or lacking("collector", f"it is not built: {build.HINT}")


@pytest.mark.parametrize("name", ["laptop", "cluster"])
async def test_it_takes_the_configuration(binary, name):
    environment = os.environ | {"OTLP_OUT": "http://127.0.0.1:1"}
    process = await asyncio.create_subprocess_exec(
        binary, "validate", "--config", HERE / f"{name}.yaml",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


def send(endpoint):
    """Send one trace of each kind that is kept, and many of no interest, 100 % of them as the services do."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")))
    tracer = provider.get_tracer("test")
    told = {"failed": {}, "again": {"app.delivery.attempt": 2}, "redriven": {"app.redrive.id": "r-1"}}
    for name, attributes in told.items():
        with tracer.start_as_current_span(name, attributes=attributes) as span:
            if name == "failed":
                span.set_status(StatusCode.ERROR)
    slow = tracer.start_span("slow", start_time=1_000_000_000)
    slow.end(7_000_000_000)
    for _ in range(MANY):
        tracer.start_span("ordinary", attributes={"app.delivery.attempt": 1}).end()
    provider.shutdown()


async def test_the_clusters_keeps_what_failed_came_again_or_was_slow_and_a_share_of_the_rest(binary, home, spans):
    collector = await Collector.start(
        home, binary, config="cluster", out=spans.endpoint, environment={"DECISION_WAIT": "1s"}
    )
    await asyncio.to_thread(send, collector.endpoint)
    wanted = {"failed", "again", "redriven", "slow"}
    await spans.seen(lambda span: span.name == "ordinary", timeout=20)
    await collector.process.stop()  # it decides about the rest, and sends it
    names = [span.name for span in spans.spans]
    assert wanted <= set(names)
    assert 0 < names.count("ordinary") < MANY / 4


async def test_the_laptops_keeps_everything(binary, home, spans):
    collector = await Collector.start(home, binary, config="laptop", out=spans.endpoint)
    await asyncio.to_thread(send, collector.endpoint)
    await spans.seen(lambda span: span.name == "ordinary", timeout=20)
    await collector.process.stop()
    assert len(spans.spans) == MANY + 4
