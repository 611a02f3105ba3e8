"""HTTP → outbox: users over HTTP. A request returns when row and event are committed; it waits for nobody else."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request, Response
from pydantic import BaseModel, ConfigDict, EmailStr, Field, model_validator
from pydantic.alias_generators import to_camel

from accounts import idempotency, profiles, users
from accounts.users import AddressTaken, User
from contracts.users import CACHE
from eventing import Database
from eventing.cache import Cache
from eventing.http import Refused, application, problems
from eventing.settings import settings

S = HTTPStatus


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the database and the cache; requests are accepted whenever the database is up."""
    async with Database.of(settings()) as database, Cache(CACHE, settings()) as cache:
        app.state.database, app.state.profiles = database, profiles.Profiles(database, cache)
        app.state.health.add("database", database.check)
        app.state.health.add("cache", cache.check, required=False)
        yield


app = application("accounts", lifespan, version="1.0.0")

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$", examples=["Ada Lovelace"])]
Email = Annotated[EmailStr, Field(max_length=254, examples=["ada@example.com"])]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]


class Body(BaseModel):
    """JSON in camelCase; an unknown field is an error."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid")


class Registration(Body):
    """A person who signs up."""

    name: Name
    email: Email


class Change(Body):
    """What is to change; what is left out stays."""

    name: Name | None = None
    email: Email | None = None

    @model_validator(mode="after")
    def _something(self) -> "Change":
        if self.name is None and self.email is None:
            raise ValueError("name or email is required")
        return self


class Profile(Body):
    """A user as others see it."""

    user_id: uuid.UUID
    name: str
    email: str
    version: int


class Registered(Profile):
    """A new user, and the event that tells of it."""

    event_id: uuid.UUID


def profile(user: User) -> Profile:
    """Return what others see of a user."""
    return Profile(user_id=user.id, name=user.name, email=user.email, version=user.version)


@app.post(
    "/users", status_code=S.CREATED, response_model=Registered, responses=problems(S.CONFLICT, S.UNPROCESSABLE_ENTITY)
)
async def register(body: Registration, request: Request, response: Response, key: Key = None) -> Any:
    """Register a user. With an Idempotency-Key the request can be repeated safely for a day."""
    fingerprint = idempotency.fingerprint(body.model_dump(mode="json"))
    async with request.app.state.database.transaction() as tx:
        answer = await idempotency.recall(tx, key, fingerprint) if key else None
        if answer is None:
            answer = await _register(tx, body)
            if key:
                await idempotency.remember(tx, key, fingerprint, answer)
    response.headers["Location"] = f"/users/{answer['userId']}"
    return answer


async def _register(tx: Any, body: Registration) -> dict[str, Any]:
    try:
        user, event_id = await users.register(tx, body.name, body.email)
    except AddressTaken:
        raise _taken() from None
    registered = Registered(**profile(user).model_dump(), event_id=event_id)
    return registered.model_dump(mode="json", by_alias=True)


@app.get("/users/{user_id}", responses=problems(S.NOT_FOUND, S.UNPROCESSABLE_ENTITY))
async def show(user_id: uuid.UUID, request: Request) -> Profile:
    """Show a user; answered from the cache when it can be."""
    user = await request.app.state.profiles.find(user_id)
    if user is None:
        raise _unknown(user_id)
    return profile(user)


@app.patch("/users/{user_id}", responses=problems(S.NOT_FOUND, S.CONFLICT, S.UNPROCESSABLE_ENTITY))
async def change(user_id: uuid.UUID, body: Change, request: Request) -> Profile:
    """Change name or address."""
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
