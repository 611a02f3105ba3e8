"""An HTTP service: FastAPI with problem details, probes, bounded bodies, metrics and a span per request."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventing import attributes, tracing
from eventing.health import Health
from eventing.metrics import HTTP_DURATION
from eventing.problems import answer, install, problems
from eventing.sampling import sampled_trace

MAX_BODY = 64 << 10  # bytes of a request's body; an event made of it may not be larger
DISCARDED = 8 << 20  # bytes of a larger body that are read and dropped, so that its sender can read our answer
BODY_WITHIN = 30.0  # seconds for a whole body; who sends one byte a minute would keep a connection for ever

S = HTTPStatus

_PROBES = ("/livez", "/readyz", "/metrics")
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_TRACE_HEADERS = (b"traceparent", b"tracestate")

_DESCRIPTION = """Every refusal is `application/problem+json` (RFC 9457). A method that a path does not know is answered
with 405 and the `Allow` header."""

log = structlog.get_logger()


def application(
    title: str, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]], *, version: str
) -> FastAPI:
    """Return a FastAPI application; `eventing serve` puts its `Health` at `app.state.health`.

    The lifespan adds the readiness checks of the service to it.
    """
    app = FastAPI(
        # FastAPI's own telemetry would name the same request twice, by other names than the rest of the way.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        title=title,
        version=version,
        description=_DESCRIPTION,
        lifespan=_with_probes(lifespan),
        redirect_slashes=False,  # a redirect would be an answer that no operation documents
        responses=problems(S.REQUEST_TIMEOUT, S.REQUEST_ENTITY_TOO_LARGE, S.SERVICE_UNAVAILABLE),
    )
    install(app)
    app.add_middleware(Bounded)
    app.add_middleware(Observed)
    return app


def _with_probes(lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]) -> Any:
    @asynccontextmanager
    async def wrapped(app: FastAPI) -> AsyncIterator[None]:
        if not hasattr(app.state, "health"):  # served by something other than `eventing serve`
            app.state.health = Health()
        app.router.routes.extend(app.state.health.routes())
        async with lifespan(app):
            yield

    return wrapped


class Bounded:
    """ASGI middleware: a service is given whole bodies of at most `MAX_BODY` bytes; 413 for larger, 408 for slow ones.

    Starlette's limit answers some requests in plain text, and closes on a sender that is still writing.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, then pass the request through."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if {"content-length", "transfer-encoding"}.isdisjoint(headers.keys()):
            await self._app(scope, receive, send)
            return
        declared = int(headers.get("content-length", 0))  # a server refuses what is no number
        try:
            async with asyncio.timeout(BODY_WITHIN):
                body = await _body(receive) if declared <= DISCARDED else b""
        except TimeoutError:
            late = f"the body did not arrive within {BODY_WITHIN:g} s; send it at once"
            await _last(S.REQUEST_TIMEOUT, late)(scope, receive, send)
            return
        if body is None:
            return  # the caller has gone
        if max(declared, len(body)) > MAX_BODY:
            large = f"a body has at most {MAX_BODY} bytes; send less"
            await _last(S.REQUEST_ENTITY_TOO_LARGE, large)(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)


def _last(status: HTTPStatus, detail: str) -> ASGIApp:
    """Return a problem after which the connection is closed: the rest of the body may still come."""
    return answer(status, detail, headers={"Connection": "close"})


async def _body(receive: Receive) -> bytes | None:
    """Read a body; of a larger one than allowed, enough to know. None when the caller has gone."""
    body, read, more = bytearray(), 0, True
    while more and read <= DISCARDED:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        read, more = read + len(chunk), message.get("more_body", False)
        body += chunk[: MAX_BODY + 1 - len(body)]
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body at once, then what comes after it."""
    waiting = [body]

    async def replayed() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replayed


class Observed:
    """ASGI middleware: a server span and a duration per request, by route; probes are left out.

    What no handler has caught ends here, while the span is open: the log line carries the trace the answer names.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through."""
        if scope["type"] != "http" or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"  # a caller's words are no labels
        incoming = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"] if k in _TRACE_HEADERS}
        sent, started = _Sent(send), time.perf_counter()
        with tracing.request(method, incoming) as span:
            try:
                await self._app(scope, receive, sent)
            except Exception as error:
                await _failed(error, scope, receive, sent)
            finally:
                route = getattr(scope.get("route"), "path", "unmatched")
                span.update_name(f"{method} {route}")
                span.set_attributes({attributes.HTTP_ROUTE: route, attributes.HTTP_STATUS: sent.status})
                if not sent.streamed:
                    example = {"trace_id": trace_id} if (trace_id := sampled_trace(span)) else None
                    HTTP_DURATION.labels(method, route, sent.status).observe(time.perf_counter() - started, example)
                if sent.status >= 500:
                    tracing.failed(span, str(sent.status))


class _Sent:
    """A `send` that remembers the status, 500 as long as there is none.

    A stream has no duration to measure: it lasts as long as somebody listens.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status, self.begun, self.streamed = 500, False, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.begun = message["status"], True
            kind = next((value for name, value in message["headers"] if name == b"content-type"), b"")
            self.streamed = kind.startswith(b"text/event-stream")
        await self._send(message)


async def _failed(error: Exception, scope: Scope, receive: Receive, sent: _Sent) -> None:
    """Log an error of ours and answer with 500; an answer that has begun is cut by the server."""
    log.error("request_failed", error_type=type(error).__name__, exc_info=error)
    if sent.begun:
        raise error
    detail = "an error of ours; it is logged under this request's trace"
    await answer(HTTPStatus.INTERNAL_SERVER_ERROR, detail)(scope, receive, sent)
