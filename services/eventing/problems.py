"""Problem details (RFC 9457): the one form of every answer that refuses a request."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from eventing.database import CONTENTION
from eventing.errors import Unavailable
from eventing.malformed import PROBLEM

MOST_FIELDS = 20  # wrong fields named in one answer: a body of thousands is answered in the size of a few

_NO_OBJECT = ("missing", "model_attributes_type", "model_type", "dict_type")

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
    errors: list[FieldProblem] = Field(default_factory=list, description="Each wrong field, for status 409 and 422.")


class Refused(Exception):
    """Answer the request with a problem.

    Args:
        status: HTTP status.
        detail: what is wrong and what to do, for the caller.
        errors: field and message of each wrong field.
        retry_after: seconds after which the same request may succeed.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        errors: Mapping[str, str] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, errors
        self.headers = None if retry_after is None else {"Retry-After": str(retry_after)}


def problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of an operation that may answer with these problems."""
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {int(s): {"description": s.phrase, "content": content} for s in statuses}


def answer(
    status: int, detail: str, errors: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return a problem as a response; also an ASGI application that sends it."""
    fields = [FieldProblem(field=_plain(name), message=_plain(text)) for name, text in (errors or {}).items()]
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=_plain(detail), errors=fields)
    return JSONResponse(problem.model_dump(), status, headers=headers, media_type=PROBLEM)


def install(app: FastAPI) -> None:
    """Make an application answer with problems, and say so in its OpenAPI document."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for away in (Unavailable, TimeoutError, *CONTENTION):
        app.add_exception_handler(away, _unavailable)
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


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)  # noqa: S101  # registered for it
    return answer(error.status, error.detail, error.errors, error.headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for it
    errors = {_field(e): _message(e) for e in error.errors()[:MOST_FIELDS]}
    detail = "; ".join(f"{field}: {message}" for field, message in errors.items())
    return answer(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors)


def _field(error: dict[str, Any]) -> str:
    """Name the field; the place of a JSON error is a position, which is no field."""
    where, *path = error["loc"]
    return str(where) if error["type"] == "json_invalid" or not path else ".".join(str(part) for part in path)


def _message(error: dict[str, Any]) -> str:
    """Say what is wrong; where FastAPI speaks of dictionaries to extract from, name what to send."""
    if error["loc"] == ("body",) and error["type"] in _NO_OBJECT:
        return "a JSON object is required, sent as Content-Type: application/json"
    if error["type"] == "json_invalid":
        return f"this is no JSON: {error['ctx']['error']} at character {error['loc'][-1]}"
    return str(error["msg"])


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for it
    if error.status_code == HTTPStatus.BAD_REQUEST:  # FastAPI's word for a body that is not even text
        detail = "the body cannot be read as JSON"
        return answer(HTTPStatus.UNPROCESSABLE_ENTITY, detail, {"body": detail})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return answer(error.status_code, f"{request.method} is not allowed here", headers={"Allow": _allowed(request)})
    if error.status_code == HTTPStatus.NOT_FOUND:
        return answer(error.status_code, f"there is nothing at {request.url.path}; /openapi.json names the paths")
    return answer(error.status_code, error.detail, headers=error.headers)


def _allowed(request: Request) -> str:
    """Return every method of a path; the router names those of the first route alone."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in routes for method in route.methods}))


async def _unavailable(_: Request, error: Exception) -> JSONResponse:
    log.warning("request_unavailable", error=f"{type(error).__name__}: {error}")
    return answer(HTTPStatus.SERVICE_UNAVAILABLE, "try again in a moment", headers={"Retry-After": "1"})


def _plain(text: str) -> str:
    """Return text that JSON can carry: what a caller sent, half a surrogate pair say, comes back in messages."""
    return text[:1000].encode(errors="backslashreplace").decode()
