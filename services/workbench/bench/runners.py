"""How each runner is started: always a process of its own, with the job in its environment."""

import sys

from workbench.bench.job import VARIABLE, Job
from workbench.bench.shapes import ACK, ACK_FIRST, BARE, CEILING, OURS, SERIAL, TRACED, Shape

PEERS = {
    ACK: ("peer_faststream", "ack"),
    ACK_FIRST: ("peer_faststream", "ack-first"),
    SERIAL: ("peer_aiokafka", "serial"),
    CEILING: ("peer_aiokafka", "ceiling"),
}


def argv(runner: str, shape: Shape) -> tuple[str, ...]:
    """Return the program and arguments of a Python runner: ours as its container would run it."""
    if runner in (OURS, TRACED):
        return sys.executable, "-m", "eventing.cli", "consume", f"workbench.bench.{shape.module}"
    if runner == BARE:
        return sys.executable, "-m", "workbench.bench.peer_asyncpg", shape.module.removeprefix("evenkeel_")
    module, mode = PEERS[runner]
    return sys.executable, "-m", f"workbench.bench.{module}", mode


def environment(runner: str, job: Job, *, port: int, otlp: str) -> dict[str, str]:
    """Return the settings of a runner.

    Args:
        runner: its name.
        job: what it does.
        port: of our probes and metrics.
        otlp: where the traced one sends its spans.
    """
    known = {VARIABLE: job.model_dump_json()}
    if runner not in (OURS, TRACED):
        return known
    known |= {
        "EVENTING_SERVICE": "bench",
        "EVENTING_KAFKA_BOOTSTRAP": job.bootstrap,
        "EVENTING_HTTP_PORT": str(port),
        "EVENTING_LOG_FORMAT": "json",
        "EVENTING_CONSUMER_CONCURRENCY": str(job.concurrency),
    }
    if job.database:
        known |= {"EVENTING_DATABASE_URL": job.database, "EVENTING_DATABASE_POOL": str(job.connections)}
    if runner == TRACED:
        known |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.05",
        }
    return known
