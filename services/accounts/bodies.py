"""What travels over HTTP: JSON in camelCase; an unknown field is an error."""

import uuid
from typing import Annotated, Any

from email_validator import EmailNotValidError, validate_email
from fastapi import Header
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

# Names that lead nowhere (RFC 6761 and its kin); email-validator refuses them, so the document says it too.
_NOWHERE = ("arpa", "invalid", "local", "localhost", "onion", "test")


def _any_case(word: str) -> str:
    return "".join(f"[{letter.upper()}{letter}]" for letter in word)


EMAIL = {"format": "email", "not": {"pattern": f"[.@]({'|'.join(map(_any_case, _NOWHERE))})$"}}


def address(value: str) -> str:
    """Return a mail address in one spelling; ASCII alone (RFC 5321), the alphabet of OpenAPI's format `email`.

    Raises:
        PydanticCustomError: it is none; the message says why.
    """
    if not value.isascii():
        raise PydanticCustomError("address", "an address is written in ASCII; a domain's other letters as xn--")
    try:
        return validate_email(value, check_deliverability=False).ascii_email or value
    except EmailNotValidError as error:
        raise PydanticCustomError("address", "not a mail address: {reason}", {"reason": str(error)}) from None


_TEXT = r"[^\x00-\x1f\x7f-\x9f]*"  # no control character
Name = Annotated[
    str,
    # One letter at least can be seen: a name of blanks is none.
    Field(min_length=1, max_length=200, pattern=rf"^{_TEXT}[^\s\x00-\x1f\x7f-\x9f]{_TEXT}$", examples=["Ada Lovelace"]),
]
Email = Annotated[
    str,
    Field(max_length=254, json_schema_extra=EMAIL, examples=["ada@example.com"]),
    AfterValidator(address),
]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Makes the request safe to repeat for a day: its answer is given again, its work is done once.",
    ),
]


class Body(BaseModel):
    """JSON in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid")


class Registration(Body):
    """A person who signs up."""

    name: Name
    email: Email


class Change(Body):
    """What is to change; what is left out stays, and null is no value of either field."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    name: Name = Field(default_factory=str)  # the empty text stands for "left out"; a factory is no default on paper
    email: Email = Field(default_factory=str)

    @model_validator(mode="after")
    def _something(self) -> "Change":
        if not self.model_fields_set:
            raise PydanticCustomError("empty", "name or email is required")
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

    def facts(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return self.model_dump(mode="json", by_alias=True)
