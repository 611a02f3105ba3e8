"""Users: a row and its event change together, or not at all."""

import uuid
from dataclasses import asdict, dataclass
from typing import Any

import asyncpg
import uuid_utils.compat

from contracts.users import UserDeleted, UserRegistered, UserUpdated
from eventing import Transaction, outbox
from eventing.sql import load

_SQL = load("accounts", "users")


class AddressTaken(Exception):
    """Another user has this address."""


@dataclass(frozen=True, slots=True)
class User:
    """One user, as of `version`."""

    id: uuid.UUID
    name: str
    email: str
    version: int

    def facts(self) -> dict[str, Any]:
        """Return what the cache keeps."""
        return asdict(self) | {"id": str(self.id)}

    @classmethod
    def of(cls, facts: dict[str, Any]) -> "User | None":
        """Return the user of cached facts, None when a release with other fields has written them."""
        try:
            return cls(**facts | {"id": uuid.UUID(facts["id"])})
        except (KeyError, TypeError, ValueError):
            return None


async def register(tx: Transaction, name: str, email: str) -> tuple[User, uuid.UUID]:
    """Create a user; returns it and the event's id.

    Raises:
        AddressTaken: the address belongs to another user.
    """
    user = User(uuid_utils.compat.uuid7(), name, email, 1)
    try:
        await tx.execute(_SQL["insert"], user.id, name, email)
    except asyncpg.UniqueViolationError as error:
        raise AddressTaken from error
    event = UserRegistered(user_id=str(user.id), name=name, email=email)
    return user, (await outbox.add(tx, event, version=user.version)).id


async def find(connection: Any, user_id: uuid.UUID) -> User | None:
    """Return a user, None when there is none."""
    row = await connection.fetchrow(_SQL["select"], user_id)
    return User(**row) if row else None


async def change(tx: Transaction, user_id: uuid.UUID, *, name: str, email: str) -> User | None:
    """Change a user; None when there is none. What is empty stays; what changes nothing makes no event.

    Raises:
        AddressTaken: the address belongs to another user.
    """
    row = await tx.fetchrow(_SQL["lock"], user_id)
    if row is None:
        return None
    before = User(**row)
    after = (name or before.name, email or before.email)
    if after == (before.name, before.email):
        return before
    try:
        changed = await tx.fetchrow(_SQL["update"], user_id, *after)
    except asyncpg.UniqueViolationError as error:
        raise AddressTaken from error
    user = User(**changed)  # type: ignore[arg-type]  # the row is locked: it is there
    await outbox.add(tx, UserUpdated(user_id=str(user_id), name=user.name, email=user.email), version=user.version)
    return user


async def delete(tx: Transaction, user_id: uuid.UUID) -> bool:
    """Forget a user; False when there is none."""
    version = await tx.fetchval(_SQL["delete"], user_id)
    if version is None:
        return False
    await outbox.add(tx, UserDeleted(user_id=str(user_id)), version=version)
    return True
