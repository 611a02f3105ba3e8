"""Events of users, on `user-events`. Bodies carry `userId` and `action`, and are never null.

`name` and `email` are optional: a foreign producer may send `{"userId": 123, "action": "registered"}` alone.
"""

from typing import Annotated, Literal

from pydantic import EmailStr, Field, StringConstraints

from eventing import Contract

TOPIC = "user-events"

UserId = Annotated[str, Field(coerce_numbers_to_str=True, min_length=1, max_length=128)]
"""An integer or a string on the wire; text from here on."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]

CACHE = "profile"
"""Prefix of the profiles in the cache: accounts fills it, profile_cache invalidates it."""


class UserRegistered(Contract, type="com.evenkeel.user.registered.v1", topic=TOPIC, key="user_id", aggregate="user"):
    """A person signed up."""

    user_id: UserId
    action: Literal["registered"] = "registered"
    name: Name | None = None
    email: EmailStr | None = None


class UserUpdated(Contract, type="com.evenkeel.user.updated.v1", topic=TOPIC, key="user_id", aggregate="user"):
    """Name or address changed; the fields are those after the change."""

    user_id: UserId
    action: Literal["updated"] = "updated"
    name: Name | None = None
    email: EmailStr | None = None


class UserDeleted(Contract, type="com.evenkeel.user.deleted.v1", topic=TOPIC, key="user_id", aggregate="user"):
    """The account is gone."""

    user_id: UserId
    action: Literal["deleted"] = "deleted"
