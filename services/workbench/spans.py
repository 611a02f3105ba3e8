"""An OTLP/HTTP receiver that keeps the spans it is sent."""

import asyncio
import socket
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from workbench.ports import LOOPBACK, free_port

_CAPACITY = 100_000

# Window bits by which zlib tells gzip from deflate itself.
_EITHER = 32 + zlib.MAX_WBITS


@dataclass(frozen=True)
class Link:
    """A reference to a span of the same or another trace."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Span:
    """A finished span. Ids are lower-case hex, times are Unix nanoseconds, no parent is the empty string."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    service: str
    start_ns: int
    end_ns: int
    status_error: bool
    attributes: Mapping[str, Any]
    links: tuple[Link, ...]


class SpanReceiver:
    """Receives spans inside this event loop.

    Attributes:
        endpoint: For OTEL_EXPORTER_OTLP_ENDPOINT, `http://127.0.0.1:PORT`.
        spans: What came, oldest first; beyond 100,000 the oldest are dropped.
    """

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://{LOOPBACK}:{port}"
        self.spans: deque[Span] = deque(maxlen=_CAPACITY)
        self._port = port
        self._arrived = asyncio.Condition()
        app = Starlette(routes=[Route("/v1/traces", self._receive, methods=["POST"])])
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, port: int | None = None) -> "SpanReceiver":
        """Listen on `port`, a free one when None."""
        receiver = cls(port or free_port())
        listener = socket.create_server((LOOPBACK, receiver._port))
        receiver._serving = asyncio.create_task(receiver._server.serve(sockets=[listener]))
        await receiver._server.up.wait()
        return receiver

    async def stop(self) -> None:
        """Stop listening."""
        if self._serving:
            self._server.should_exit = True
            await self._serving

    async def seen(self, predicate: Callable[[Span], bool], timeout: float = 10) -> Span:  # noqa: ASYNC109 - reads better in a test
        """Wait for a span that satisfies `predicate`; return the first.

        Raises:
            TimeoutError: There was none after `timeout` seconds; the message has the names that came.
        """
        try:
            async with asyncio.timeout(timeout), self._arrived:
                await self._arrived.wait_for(lambda: any(map(predicate, self.spans)))
        except TimeoutError:
            names = sorted({span.name for span in self.spans})
            raise TimeoutError(f"no such span after {timeout:g} s; there were {names}") from None
        return next(filter(predicate, self.spans))

    async def _receive(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-encoding") in ("gzip", "deflate"):
            body = zlib.decompress(body, wbits=_EITHER)
        self.spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
        async with self._arrived:
            self._arrived.notify_all()
        answer = ExportTraceServiceResponse().SerializeToString()
        return Response(answer, media_type="application/x-protobuf")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Ctrl-C belongs to the program we are a guest of.
        yield


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource_spans in request.resource_spans:
        service = _mapping(resource_spans.resource.attributes).get("service.name", "")
        for scope_spans in resource_spans.scope_spans:
            yield from (_span(service, wire) for wire in scope_spans.spans)


def _span(service: str, wire: WireSpan) -> Span:
    return Span(
        trace_id=wire.trace_id.hex(),
        span_id=wire.span_id.hex(),
        parent_id=wire.parent_span_id.hex(),
        name=wire.name,
        kind=WireSpan.SpanKind.Name(wire.kind).removeprefix("SPAN_KIND_").lower(),
        service=service,
        start_ns=wire.start_time_unix_nano,
        end_ns=wire.end_time_unix_nano,
        status_error=wire.status.code == Status.STATUS_CODE_ERROR,
        attributes=_mapping(wire.attributes),
        links=tuple(map(_link, wire.links)),
    )


def _link(wire: WireSpan.Link) -> Link:
    return Link(wire.trace_id.hex(), wire.span_id.hex(), _mapping(wire.attributes))


def _mapping(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _mapping(value.kvlist_value.values)
    return getattr(value, kind) if kind else None
