"""The query side: statistics, one user's history, and a live stream."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, FastAPI, Path, Query, Request
from fastapi.sse import EventSourceResponse

from analytics.history import History, page
from analytics.stats import Stats, snapshot
from analytics.watch import TooManyWatchers, Watch
from eventing import Database
from eventing.http import application
from eventing.problems import Refused, problems
from eventing.settings import settings


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the database, and look at it for those who watch."""
    async with Database.of(settings()) as database:
        app.state.database, app.state.watch = database, Watch(database, app.state.health.stopping)
        app.state.health.add("database", database.check)
        app.state.health.watch(app.state.watch.alive)
        async with app.state.watch.looking():
            yield


app = application("analytics", lifespan, version="1.0.0")

UserId = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$", examples=["123"])]
Cursor = Annotated[int, Query(ge=0, le=2**63 - 1, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=200, description="Entries of a page")]


@app.get("/stats")
async def stats(request: Request) -> Stats:
    """Read the statistics."""
    return await snapshot(request.app.state.database)


@app.get("/users/{user_id:path}/history", responses=problems(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY))
async def history(user_id: UserId, request: Request, after: Cursor = 0, limit: Limit = 100) -> History:
    """Read a user's history, oldest first."""
    found = await page(request.app.state.database, user_id, after=after, limit=limit)
    if not found.entries and not after:
        raise Refused(HTTPStatus.NOT_FOUND, f"nothing is known of user {user_id}")
    return found


async def seat(request: Request) -> AsyncIterator[AsyncIterator[Stats]]:
    """Take part in the live stream, as long as there is room."""
    try:
        async with request.app.state.watch.seat() as snapshots:
            yield snapshots
    except TooManyWatchers:
        detail = "too many live streams are open here; try again later"
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, detail, retry_after=10) from None


@app.get("/stats/stream", response_class=EventSourceResponse)
async def stream(snapshots: Annotated[AsyncIterator[Stats], Depends(seat)]) -> AsyncIterator[Stats]:
    """Follow the statistics: every message is a whole snapshot, sent at once and at each change."""
    async for found in snapshots:
        yield found
