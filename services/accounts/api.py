"""HTTP → outbox: users over HTTP. A request returns when row and event are committed; it waits for nobody else."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response

from accounts import idempotency, users
from accounts.bodies import Change, Key, Profile, Registered, Registration
from accounts.profiles import Profiles
from accounts.users import AddressTaken, User
from contracts.users import CACHE
from eventing import Database, Transaction
from eventing.cache import Cache
from eventing.http import application
from eventing.problems import Refused, problems
from eventing.settings import settings

S = HTTPStatus

CREATED: dict[int | str, dict[str, Any]] = {
    201: {"headers": {"Location": {"description": "Path of the user.", "schema": {"type": "string"}}}}
}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the database and the cache; requests are accepted whenever the database is up."""
    async with Database.of(settings()) as database, Cache(CACHE, settings()) as cache:
        app.state.database, app.state.profiles = database, Profiles(database, cache)
        app.state.health.add("database", database.check)
        app.state.health.add("cache", cache.check, required=False)
        yield


app = application("accounts", lifespan, version="1.0.0")


def profile(user: User) -> Profile:
    """Return what others see of a user."""
    return Profile(user_id=user.id, name=user.name, email=user.email, version=user.version)


@app.post(
    "/users",
    status_code=S.CREATED,
    response_model=Registered,
    responses=CREATED | problems(S.CONFLICT, S.UNPROCESSABLE_ENTITY),
)
async def register(body: Registration, request: Request, response: Response, key: Key = None) -> dict[str, Any]:
    """Register a user."""
    async with request.app.state.database.transaction() as tx:
        if key is None:
            answer = await _register(tx, body)
        else:
            answer = await idempotency.once(tx, key, body.model_dump(), lambda: _register(tx, body))
    response.headers["Location"] = f"/users/{answer['userId']}"
    return answer


async def _register(tx: Transaction, body: Registration) -> dict[str, Any]:
    try:
        user, event_id = await users.register(tx, body.name, body.email)
    except AddressTaken:
        raise _taken() from None
    return Registered(**profile(user).model_dump(), event_id=event_id).facts()


@app.get("/users/{user_id}", responses=problems(S.NOT_FOUND, S.UNPROCESSABLE_ENTITY))
async def show(user_id: uuid.UUID, request: Request) -> Profile:
    """Show a user; answered from the cache when it can be."""
    user = await request.app.state.profiles.find(user_id)
    if user is None:
        raise _unknown(user_id)
    return profile(user)


@app.patch("/users/{user_id}", responses=problems(S.NOT_FOUND, S.CONFLICT, S.UNPROCESSABLE_ENTITY))
async def change(user_id: uuid.UUID, body: Change, request: Request) -> Profile:
    """Change name or address; what is left out stays."""
    try:
        async with request.app.state.database.transaction() as tx:
            user = await users.change(tx, user_id, name=body.name, email=body.email)
    except AddressTaken:
        raise _taken() from None
    if user is None:
        raise _unknown(user_id)
    return profile(user)


@app.delete("/users/{user_id}", status_code=S.NO_CONTENT, responses=problems(S.NOT_FOUND, S.UNPROCESSABLE_ENTITY))
async def delete(user_id: uuid.UUID, request: Request) -> None:
    """Forget a user."""
    async with request.app.state.database.transaction() as tx:
        if not await users.delete(tx, user_id):
            raise _unknown(user_id)


def _unknown(user_id: uuid.UUID) -> Refused:
    return Refused(S.NOT_FOUND, f"there is no user {user_id}")


def _taken() -> Refused:
    detail = "this address belongs to another user; use another one"
    return Refused(S.CONFLICT, detail, errors={"email": detail})
