"""A contract: the typed body of an event, with the words that address it.

    class UserRegistered(Contract, type="com.example.user.registered.v1", topic="user-events", key="user_id"):
        user_id: UserId
        action: Literal["registered"] = "registered"

Consumers ignore unknown fields (a producer may add optional ones); producers are checked in `outbox.add`.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from eventing.errors import BadRecord, Misconfigured

MAX_BODY = 64 * 1024  # bytes; the size every CloudEvents intermediary must carry (spec 1.0.2, size limits)

_by_type: dict[str, type["Contract"]] = {}


class Contract(BaseModel):
    """Body of one type of event; subclasses name `type`, `topic` and the field that is the `key`.

    Args of the class statement:
        type: CloudEvents type, with its major version last (`com.example.order.placed.v1`).
        topic: Kafka topic the event is published to.
        key: field whose value is the aggregate's id and the record's key: order is kept per key.
        aggregate: name of the kind of aggregate; defaults to the topic.

    Raises:
        Misconfigured: two contracts share a type, or the key is no field.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    event_type: ClassVar[str]
    event_topic: ClassVar[str]
    event_aggregate: ClassVar[str]
    key_field: ClassVar[str]

    def __init_subclass__(cls, **_: Any) -> None:
        """Take the words of the class statement; they are read once the fields are known."""
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(
        cls,
        *,
        type: str = "",  # noqa: A002  # the word of the class statement
        topic: str = "",
        key: str = "",
        aggregate: str = "",
        **_: Any,
    ) -> None:
        if not type:
            return  # an abstract step between Contract and the contracts of one topic
        if key not in cls.model_fields:
            raise Misconfigured(f"contract {type}: key {key!r} is not a field; name one of {list(cls.model_fields)}")
        if (other := _by_type.get(type)) and other.__qualname__ != cls.__qualname__:
            raise Misconfigured(f"contract {type} is declared by both {other.__qualname__} and {cls.__qualname__}")
        cls.event_type, cls.event_topic, cls.key_field, cls.event_aggregate = type, topic, key, aggregate or topic
        _by_type[type] = cls

    @property
    def event_key(self) -> str:
        """The aggregate's id as text."""
        return str(getattr(self, self.key_field))

    def encode(self) -> bytes:
        """Return the JSON body as it travels: camelCase, absent options left out."""
        return self.model_dump_json(
            by_alias=True, exclude_none=True, warnings=False
        ).encode()  # parsed again in outbox.add

    @classmethod
    def decode(cls, body: bytes) -> "Contract":
        """Read a body.

        Raises:
            BadRecord: naming every field that is wrong, never its value (it may be personal).
        """
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise BadRecord(f"{cls.event_type}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """Return one line naming each wrong field and what is wrong, without the values."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or 'body'}: {p['msg']}" for p in problems)


def find(event_type: str) -> type[Contract] | None:
    """Return the contract of an event type, or None when no imported module declares it."""
    return _by_type.get(event_type)


def find_action(topic: str, action: str) -> type[Contract] | None:
    """Return the contract that a record without CloudEvents headers means: by topic and `action` of its body."""
    for contract in _by_type.values():
        field = contract.model_fields.get("action")
        if contract.event_topic == topic and field is not None and field.default == action:
            return contract
    return None


def of_topic(topic: str) -> list[type[Contract]]:
    """Return the contracts published to a topic, sorted by type."""
    return sorted((c for c in _by_type.values() if c.event_topic == topic), key=lambda c: c.event_type)
