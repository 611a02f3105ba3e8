"""What a service author writes: a consumer group and its handlers.

consumer = Consumer(group="mailer")

@consumer.on(UserRegistered)
async def welcome(user: UserRegistered, mail: Mail) -> None: ...
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, TypeVar

from eventing.contract import Contract
from eventing.errors import Misconfigured
from eventing.handler import Handler, Resource, bind, bind_batch, bind_resource
from eventing.outcome import Exhausted, Retries

Function = TypeVar("Function", bound=Callable[..., Any])
Opener = TypeVar("Opener", bound=Callable[..., AsyncIterator[Any]])

STALE = object()
"""A handler returns this when the event was older than what it already knew; counted as `stale`."""

MAX_BATCH = 5_000  # records of one batch


class Consumer:
    """A consumer group: which events it handles, and how.

    Args:
        group: the Kafka consumer group, and part of the names of its dead-letter, redrive and retry topics.
        topics: topics to read beside those of the contracts handled; needed for `on_any`.
        retries: attempts and waits; None takes them from the settings.
        ordering: keep the events of a key in order, or handle every event by itself (`none`).
        exhausted: what becomes of an event that is given up. `skip`: it goes to the dead letters, and the next of its
            key runs. `block`: it is tried again and again, and its key waits for it. `park_key`: it goes to the dead
            letters, and every later event of its key follows it there, until a redrive brings them back in order;
            needs a database.
        tiers: delays in seconds of retry topics, for `ordering="none"`: an event that fails is tried again from
            `<topic>.<group>.retry.<delay>` of each in turn, and holds up nobody meanwhile.
        start: where a group without offsets begins: with what is there, or with what comes. `latest` applies once, when
            the group first reads a topic; partitions added later are read from their first record.
        unknown: what to do with an event no contract describes: keep it in the dead letters, or skip it.

    Raises:
        Misconfigured: the group's name cannot be part of a topic's, or two of the choices contradict each other.
    """

    def __init__(
        self,
        group: str,
        *,
        topics: tuple[str, ...] = (),
        retries: Retries | None = None,
        ordering: Literal["key", "none"] = "key",
        exhausted: Exhausted = "skip",
        tiers: tuple[int, ...] = (),
        start: Literal["earliest", "latest"] = "earliest",
        unknown: Literal["dead_letter", "skip"] = "dead_letter",
    ) -> None:
        if not group or any(c not in _LEGAL for c in group):
            raise Misconfigured(
                f"group {group!r}: use letters, digits, '.', '_' and '-': it becomes part of topic names"
            )
        _consistent(group, ordering, exhausted, tiers, retries)
        self.group = group
        self.retries = retries
        self.ordering = ordering
        self.exhausted = exhausted
        self.tiers = tiers
        self.start = start
        self.unknown = unknown
        self.handlers: dict[type[Contract], Handler] = {}
        self.catch_all: Handler | None = None
        self.batch: int | None = None  # records of a batch at most; None when events are handled one by one
        self.resources: list[Resource] = []
        self._topics = topics

    @property
    def topics(self) -> list[str]:
        """Topics read by this group, without those it writes itself."""
        return sorted({*self._topics, *(contract.event_topic for contract in self.handlers)})

    @property
    def all_handlers(self) -> list[Handler]:
        """Every handler, each once."""
        found = [*self.handlers.values(), *([self.catch_all] if self.catch_all else [])]
        return [handler for n, handler in enumerate(found) if handler not in found[:n]]

    def on(self, contract: type[Contract]) -> Callable[[Function], Function]:
        """Register the decorated function for one contract.

        Raises:
            Misconfigured: the contract has a handler already, or the signature cannot be served.
        """

        def register(function: Function) -> Function:
            self._one_by_one()
            self._claim(contract, bind(function, contract))
            return function

        return register

    def on_any(self, function: Function) -> Function:
        """Register the decorated function for every event of `topics` that has no handler of its own.

        Raises:
            Misconfigured: there is one already, or no topics are named.
        """
        self._one_by_one()
        self._claim_rest("on_any", bind(function, None))
        return function

    def on_batch(self, *contracts: type[Contract], size: int = 500) -> Callable[[Function], Function]:
        """Register the decorated function for many events at once, in one transaction if it takes one.

        It takes a `list[Contract]`, a `list[Event]`, or both, in the same order; the events of a key are in theirs.
        A batch that fails is halved until the event at fault is alone.

        Args:
            contracts: what it handles; none means every event of `topics`.
            size: events of a batch, at most.

        Raises:
            Misconfigured: the consumer has another handler, the size is no size, or the signature cannot be served.
        """
        if not 1 <= size <= MAX_BATCH:
            raise Misconfigured(f"{self.group}: a batch has 1 to {MAX_BATCH} events, not {size}")

        def register(function: Function) -> Function:
            if self.all_handlers:
                raise Misconfigured(
                    f"{self.group}: has a handler already, and on_batch is the only one; use a group for each"
                )
            handler = bind_batch(function, contracts)
            for contract in contracts:
                self._claim(contract, handler)
            if not contracts:
                self._claim_rest("on_batch without contracts", handler)
            self.batch = size
            return function

        return register

    def resource(self, function: Opener) -> Opener:
        """Register the decorated async generator: what it yields is handed to handlers by type, closed at the end."""
        self.resources.append(bind_resource(function))
        return function

    def _one_by_one(self) -> None:
        if self.batch is not None:
            raise Misconfigured(f"{self.group}: on_batch is the only handler of a consumer; use a group for each")

    def _claim(self, contract: type[Contract], handler: Handler) -> None:
        if contract in self.handlers:
            raise Misconfigured(f"{self.group}: {contract.__name__} has a handler already; one event, one handler")
        self.handlers[contract] = handler

    def _claim_rest(self, what: str, handler: Handler) -> None:
        if self.catch_all is not None or not self._topics:
            raise Misconfigured(f"{self.group}: {what} needs Consumer(topics=...) and can be used once")
        self.catch_all = handler


def _consistent(group: str, ordering: str, exhausted: str, tiers: tuple[int, ...], retries: Retries | None) -> None:
    """Refuse choices that contradict each other."""
    known = {"ordering": (ordering, ("key", "none")), "exhausted": (exhausted, ("skip", "block", "park_key"))}
    for name, (value, allowed) in known.items():
        if value not in allowed:
            raise Misconfigured(f"{group}: {name} is {value!r}; choose one of {', '.join(allowed)}")
    if tiers and ordering == "key":
        raise Misconfigured(
            f"{group}: retry topics let later events of a key overtake; choose ordering='none' or no tiers"
        )
    if ordering == "none" and exhausted != "skip":
        raise Misconfigured(f"{group}: without an order there is no key to {exhausted}; use exhausted='skip'")
    if tiers and retries is not None:
        raise Misconfigured(f"{group}: tiers say how often and when to try; leave out retries")
    if any(tier < 1 for tier in tiers) or list(tiers) != sorted(set(tiers)):
        raise Misconfigured(f"{group}: tiers are whole seconds, from 1, each longer than the one before, not {tiers}")


_LEGAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
