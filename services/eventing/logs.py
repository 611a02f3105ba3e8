"""Logs: one JSON line per fact on stdout, readable text on a terminal, with the ids of the event at hand."""

import logging
import sys
from typing import Any

import structlog
from opentelemetry import trace

from eventing.event import Event
from eventing.settings import settings


def configure() -> None:
    """Send our logs and those of the libraries through one formatter to stdout."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _trace_ids,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _renderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings().log_level.upper())
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # its warnings repeat what we log once, with the ids
    logging.getLogger("aiokafka.cluster").setLevel(logging.CRITICAL)  # a missing topic is what readiness says
    structlog.contextvars.bind_contextvars(service=settings().service)


def quiet_client() -> None:
    """Let Kafka's client say nothing to who types a command: our one line says the same, and the remedy."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _renderer() -> Any:
    as_text = settings().log_format == "text" or (settings().log_format == "auto" and sys.stdout.isatty())
    return structlog.dev.ConsoleRenderer() if as_text else structlog.processors.JSONRenderer()


def _trace_ids(_logger: object, _method: str, line: dict[str, Any]) -> dict[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        line["trace_id"], line["span_id"] = f"{context.trace_id:032x}", f"{context.span_id:016x}"
    return line


def ids(event: Event, group: str) -> dict[str, Any]:
    """Return the log fields that identify an event."""
    return {
        "event_id": event.id,
        "event_type": event.type,
        "correlation_id": event.correlation_id,
        "topic": event.topic,
        "partition": event.partition,
        "offset": event.offset,
        "group": group,
        "attempt": event.attempt,
    }
