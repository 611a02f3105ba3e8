"""Which dead letters are meant: the one filter language of `eventing dlq` and of the operator's resource. No I/O."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from eventing import headers as names
from eventing.errors import Misconfigured
from eventing.letter import DeadLetter
from eventing.offset_ranges import PATTERN, OffsetRanges

MAX_VALUES = 256  # in one field; a resource's schema needs a bound
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def _moment(value: object) -> object:
    if isinstance(value, str) and not _RFC3339.fullmatch(value):
        raise ValueError("needs date, time and zone as in RFC 3339: 2026-11-24T03:00:00Z")
    if not isinstance(value, str | datetime):
        raise ValueError("needs a text as in RFC 3339: 2026-11-24T03:00:00Z")  # pydantic collects these
    return value


def _offsets(value: object) -> OffsetRanges:
    return value if isinstance(value, OffsetRanges) else OffsetRanges.parse(str(value))


Text = Annotated[str, Field(max_length=1024)]
Texts = Annotated[tuple[Text, ...], Field(max_length=MAX_VALUES)]
Numbers = Annotated[tuple[Annotated[int, Field(ge=0, lt=1 << 31)], ...], Field(max_length=MAX_VALUES)]
Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
Offsets = Annotated[
    OffsetRanges,
    BeforeValidator(_offsets),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": PATTERN, "maxLength": 1024}),
]


class Filter(BaseModel):
    """Which dead letters are meant. Every criterion given must hold; of several values, one. Nothing given: all."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    ids: Texts = ()
    """Ids of dead letters, as `eventing dlq list` shows them."""
    keys: Texts = ()
    """Keys of the records, as text."""
    reasons: Texts = ()
    """Why they are here: undecodable, unknown-type, permanent, exhausted, sequence-parked, pointer-only."""
    errors: Texts = ()
    """Names of the exceptions, without module: TimeoutError."""
    types: Texts = ()
    """Types of the events: com.evenkeel.user.registered.v1."""
    headers: Annotated[dict[Text, Text], Field(max_length=64)] = Field(default_factory=dict)
    """Headers that all must have these values."""
    since: Moment | None = None
    """Last failed at this time or later, RFC 3339."""
    until: Moment | None = None
    """Last failed before this time, RFC 3339."""
    partitions: Numbers = ()
    """Partitions of the dead-letter topic."""
    offsets: Offsets | None = None
    """Offsets in the dead-letter topic: 100-200,305."""
    origin_topics: Texts = ()
    """Topics the records were in first."""
    origin_partitions: Numbers = ()
    """Partitions the records were in first."""
    origin_offsets: Offsets | None = None
    """Offsets the records had first: 100-200,305."""

    @classmethod
    def parse(cls, given: str | Mapping[str, Any]) -> Self:
        """Read a filter from JSON, or from what JSON holds.

        Raises:
            Misconfigured: naming every wrong field, every unknown one and those that are known.
        """
        try:
            fields = json.loads(given) if isinstance(given, str) else given
        except ValueError as error:
            raise Misconfigured(f"filter: not JSON: {error}") from None
        try:
            return cls.model_validate(fields, by_alias=True, by_name=False)
        except ValidationError as error:
            raise Misconfigured("; ".join(_said(cls, e) for e in error.errors())) from None

    @model_validator(mode="after")
    def _in_this_order(self) -> Self:
        if self.since and self.until and self.since >= self.until:
            raise ValueError(f"since {self.since.isoformat()} is not before until {self.until.isoformat()}")
        return self

    def matches(self, letter: DeadLetter) -> bool:
        """Tell whether a letter is meant."""
        return (
            self._names(letter)
            and (not self.reasons or not letter.reasons.isdisjoint(self.reasons))
            and self._places(letter)
            and (self.since is None or letter.last_failed >= self.since)
            and (self.until is None or letter.last_failed < self.until)
        )

    def _names(self, letter: DeadLetter) -> bool:
        asked: tuple[tuple[tuple[str, ...], str | None], ...] = (
            (self.ids, letter.id),
            (self.keys, letter.key),
            (self.errors, letter.known.get(names.ERROR_TYPE)),
            (self.types, letter.known.get(names.TYPE)),
        )
        return all(value in values for values, value in asked if values) and all(
            letter.known.get(name) == value for name, value in self.headers.items()
        )

    def _places(self, letter: DeadLetter) -> bool:
        record = letter.record
        if self.partitions and record.partition not in self.partitions:
            return False
        if self.offsets is not None and record.offset not in self.offsets:
            return False
        if not (self.origin_topics or self.origin_partitions or self.origin_offsets is not None):
            return True
        return letter.origin is not None and self._origins(*letter.origin)

    def _origins(self, topic: str, partition: int, offset: int) -> bool:
        return (
            (not self.origin_topics or topic in self.origin_topics)
            and (not self.origin_partitions or partition in self.origin_partitions)
            and (self.origin_offsets is None or offset in self.origin_offsets)
        )


def _said(model: type[Filter], error: Any) -> str:
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        known = ", ".join(field.alias or name for name, field in model.model_fields.items())
        return f"filter: unknown key {place!r}; known are {known}"
    return f"filter: {place + ': ' if place else ''}{error['msg'].removeprefix('Value error, ')}"
