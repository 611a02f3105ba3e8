"""An HTTP service: FastAPI with problem details (RFC 9457), probes, metrics and a span per request."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventing import attributes, tracing
from eventing.errors import Unavailable
from eventing.health import Health
from eventing.metrics import HTTP_DURATION

PROBLEM = "application/problem+json"

log = structlog.get_logger()


class FieldProblem(BaseModel):
    """One field of a request and what is wrong with it."""

    field: str
    message: str


class Problem(BaseModel):
    """Problem details, RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = Field(default_factory=list, description="Each wrong field, for status 422.")


class Refused(Exception):
    """Answer the request with a problem.

    Args:
        status: HTTP status.
        detail: what is wrong and what to do, for the caller.
        errors: field and message of each wrong field.
    """

    def __init__(self, status: HTTPStatus, detail: str, *, errors: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, errors or {}


def problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of an operation that may answer with these problems."""
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {int(s): {"description": s.phrase, "content": content} for s in statuses}


def application(
    title: str, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]], *, version: str
) -> FastAPI:
    """Return a FastAPI application; `eventing serve` puts its `Health` at `app.state.health`.

    The lifespan adds the readiness checks of the service to it.
    """
    # FastAPI's own telemetry would name the same request twice, by other names than the rest of the way.
    app = FastAPI(
        telemetry={"tracing": False, "metrics": False, "logs": False},
        title=title,
        version=version,
        lifespan=_with_probes(lifespan),
        responses=problems(HTTPStatus.SERVICE_UNAVAILABLE),
    )
    app.add_middleware(Observed)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Unavailable, _unavailable)
    app.add_exception_handler(Exception, _failed)
    _document(app)
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


def _document(app: FastAPI) -> None:
    """Describe problems in the OpenAPI document, in place of FastAPI's own validation error."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (Problem, FieldProblem):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schema.pop("$defs", None)
            schemas[model.__name__] = schema
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI documents replacing it


def _answer(status: int, detail: str, errors: dict[str, str] | None = None, headers: Any = None) -> JSONResponse:
    fields = [FieldProblem(field=field, message=message) for field, message in (errors or {}).items()]
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=fields)
    return JSONResponse(problem.model_dump(), status, headers=headers, media_type=PROBLEM)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)  # noqa: S101  # registered for it
    return _answer(error.status, error.detail, error.errors)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for it
    errors = {".".join(str(part) for part in e["loc"][1:]) or str(e["loc"][0]): e["msg"] for e in error.errors()}
    detail = "; ".join(f"{field}: {message}" for field, message in errors.items())
    return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors)


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for it
    return _answer(error.status_code, error.detail, headers=error.headers)


async def _unavailable(_: Request, error: Exception) -> JSONResponse:
    log.warning("request_unavailable", error=str(error))
    return _answer(HTTPStatus.SERVICE_UNAVAILABLE, "try again in a moment", headers={"Retry-After": "1"})


async def _failed(_: Request, error: Exception) -> JSONResponse:
    log.error("request_failed", error_type=type(error).__name__, exc_info=error)
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, "an error of ours; it is logged under this request's trace")


class Observed:
    """ASGI middleware: a server span and a duration per request, by route; probes are left out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through."""
        if scope["type"] != "http" or scope["path"] in ("/livez", "/readyz", "/metrics"):
            await self._app(scope, receive, send)
            return
        incoming = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"] if k in _TRACE_HEADERS}
        status, started = 500, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with tracing.request(scope["method"], incoming) as span:
            try:
                await self._app(scope, receive, watched)
            finally:
                route = getattr(scope.get("route"), "path", "unmatched")
                span.update_name(f"{scope['method']} {route}")
                span.set_attributes({attributes.HTTP_ROUTE: route, attributes.HTTP_STATUS: status})
                HTTP_DURATION.labels(scope["method"], route, status).observe(time.perf_counter() - started)
                if status >= 500:
                    tracing.failed(span, str(status))


_TRACE_HEADERS = (b"traceparent", b"tracestate")
