"""What a service author writes: a consumer group and its handlers.

consumer = Consumer(group="mailer")

@consumer.on(UserRegistered)
async def welcome(user: UserRegistered, mail: Mail) -> None: ...
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, TypeVar

from eventing.contract import Contract
from eventing.errors import Misconfigured
from eventing.handler import Handler, Resource, bind, bind_resource
from eventing.outcome import Retries

Function = TypeVar("Function", bound=Callable[..., Any])
Opener = TypeVar("Opener", bound=Callable[..., AsyncIterator[Any]])

STALE = object()
"""A handler returns this when the event was older than what it already knew; counted as `stale`."""


class Consumer:
    """A consumer group: which events it handles, and how.

    Args:
        group: the Kafka consumer group, and part of the names of its dead-letter and redrive topics.
        topics: topics to read beside those of the contracts handled; needed for `on_any`.
        retries: attempts and waits; None takes them from the settings.
        start: where a group without offsets begins: with what is there, or with what comes.
        unknown: what to do with an event no contract describes: keep it in the dead letters, or skip it.
    """

    def __init__(
        self,
        group: str,
        *,
        topics: tuple[str, ...] = (),
        retries: Retries | None = None,
        start: Literal["earliest", "latest"] = "earliest",
        unknown: Literal["dead_letter", "skip"] = "dead_letter",
    ) -> None:
        if not group or any(c not in _LEGAL for c in group):
            raise Misconfigured(
                f"group {group!r}: use letters, digits, '.', '_' and '-': it becomes part of topic names"
            )
        self.group = group
        self.retries = retries
        self.start = start
        self.unknown = unknown
        self.handlers: dict[type[Contract], Handler] = {}
        self.catch_all: Handler | None = None
        self.resources: list[Resource] = []
        self._topics = topics

    @property
    def topics(self) -> list[str]:
        """Topics read by this group, without its redrive topics."""
        return sorted({*self._topics, *(contract.event_topic for contract in self.handlers)})

    def on(self, contract: type[Contract]) -> Callable[[Function], Function]:
        """Register the decorated function for one contract.

        Raises:
            Misconfigured: the contract has a handler already, or the signature cannot be served.
        """

        def register(function: Function) -> Function:
            if contract in self.handlers:
                raise Misconfigured(f"{self.group}: {contract.__name__} has a handler already; one event, one handler")
            self.handlers[contract] = bind(function, contract)
            return function

        return register

    def on_any(self, function: Function) -> Function:
        """Register the decorated function for every event of `topics` that has no handler of its own.

        Raises:
            Misconfigured: there is one already, or no topics are named.
        """
        if self.catch_all is not None or not self._topics:
            raise Misconfigured(f"{self.group}: on_any needs Consumer(topics=...) and can be used once")
        self.catch_all = bind(function, None)
        return function

    def resource(self, function: Opener) -> Opener:
        """Register the decorated async generator: what it yields is handed to handlers by type, closed at the end."""
        self.resources.append(bind_resource(function))
        return function


_LEGAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
