"""The query side: statistics, one user's history, and a live stream."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Query, Request
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from analytics.stats import TooManyWatchers, Watch, snapshot
from eventing import Database
from eventing.http import application
from eventing.problems import Refused, problems
from eventing.settings import settings
from eventing.sql import load

_SQL = load("analytics", "stats")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the database, and look at it for those who watch."""
    async with Database.of(settings()) as database:
        app.state.database, app.state.watch = database, Watch(database, app.state.health.stopping)
        app.state.health.add("database", database.check)
        async with app.state.watch.looking():
            yield


app = application("analytics", lifespan, version="1.0.0")


class Body(BaseModel):
    """JSON in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)


class Day(Body):
    """Registrations of one day, in UTC."""

    day: str
    count: int


class Stats(Body):
    """The statistics at one moment; the last thirty days with registrations."""

    active_users: int
    events: int
    registrations_per_day: list[Day]


class Entry(Body):
    """One event of a user, as it came."""

    event_id: str
    type: str
    version: int | None
    happened_at: datetime
    recorded_at: datetime
    topic: str
    partition: int
    offset: int
    body: Any


class History(Body):
    """A page of a user's events; `next` is the cursor of the page after it, null at the end."""

    entries: list[Entry]
    next: int | None


UserId = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$", examples=["123"])]


@app.get("/stats", response_model=Stats)
async def stats(request: Request) -> dict[str, Any]:
    """Read the statistics."""
    return await snapshot(request.app.state.database)


@app.get("/users/{user_id}/history", responses=problems(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY))
async def history(
    user_id: UserId,
    request: Request,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="Cursor: `next` of the page before")] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> History:
    """Read a user's history, oldest first."""
    rows = await request.app.state.database.fetch(_SQL["history"], user_id, after, limit)
    if not rows and not after:
        raise Refused(HTTPStatus.NOT_FOUND, f"nothing is known of user {user_id}")
    entries = [Entry(**dict(row) | {"body": json.loads(row["body"])}) for row in rows]
    return History(entries=entries, next=rows[-1]["seq"] if len(rows) == limit else None)


async def seat(request: Request) -> AsyncIterator[Watch]:
    """Take part in the live stream, as long as there is room."""
    try:
        with request.app.state.watch.seat():
            yield request.app.state.watch
    except TooManyWatchers:
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many live streams are open here; try again later") from None


@app.get("/stats/stream", response_class=EventSourceResponse)
async def stream(watch: Annotated[Watch, Depends(seat)]) -> AsyncIterator[dict[str, Any]]:
    """Follow the statistics: every message is a whole snapshot."""
    async for found in watch.snapshots():
        yield found
