"""A handler: a plain function, and what each of its parameters wants, read from the annotations."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from eventing.contract import Contract
from eventing.database import Transaction
from eventing.errors import Misconfigured
from eventing.event import Event


@dataclass(frozen=True)
class Handler:
    """A function for one contract, or for every event when `contract` is None.

    `wants` maps its parameters to types: the contract, `Event`, `Transaction`, or a resource.
    """

    call: Callable[..., Any]
    contract: type[Contract] | None
    wants: dict[str, type]
    threaded: bool

    @property
    def transactional(self) -> bool:
        """True when the handler takes a transaction, and with it the inbox."""
        return Transaction in self.wants.values()

    @property
    def resources(self) -> set[type]:
        """Types that must be provided for it."""
        own = (Event, Transaction)
        return {t for t in self.wants.values() if t not in own and not issubclass(t, Contract)}

    async def run(self, provided: dict[type, Any]) -> Any:
        """Call the function; a sync one runs in a thread, since heartbeats share the event loop."""
        arguments = {name: provided[kind] for name, kind in self.wants.items()}
        if self.threaded:
            return await asyncio.to_thread(self.call, **arguments)
        return await self.call(**arguments)


def bind(call: Callable[..., Any], contract: type[Contract] | None) -> Handler:
    """Read what a handler wants.

    Raises:
        Misconfigured: a parameter has no annotation, or names another contract.
    """
    wants = _annotations(call)
    for name, kind in wants.items():
        if issubclass(kind, Contract) and kind is not contract:
            raise Misconfigured(
                f"{call.__qualname__}: {name} is a {kind.__name__}, but it is registered for "
                f"{contract.__name__ if contract else 'every event'}; annotate {name} with that"
            )
    return Handler(call, contract, wants, threaded=not inspect.iscoroutinefunction(call))


def _annotations(call: Callable[..., Any]) -> dict[str, type]:
    try:
        hints = get_type_hints(call)
    except NameError as error:
        raise Misconfigured(f"{call.__qualname__}: {error}; import the type at run time") from None
    wants = {}
    for name in inspect.signature(call).parameters:
        if not isinstance(hints.get(name), type):
            raise Misconfigured(
                f"{call.__qualname__}: annotate {name} with a contract, Event, Transaction or a resource"
            )
        wants[name] = hints[name]
    return wants


@dataclass(frozen=True)
class Resource:
    """Something opened once per process and handed to the handlers that name its type."""

    open: Callable[..., AsyncIterator[Any]]
    provides: type
    wants: dict[str, type]


def bind_resource(function: Callable[..., AsyncIterator[Any]]) -> Resource:
    """Read what a resource provides: an async generator annotated `-> AsyncIterator[Mail]` provides `Mail`.

    Raises:
        Misconfigured: the return annotation says no type.
    """
    returned = get_type_hints(function).get("return")
    arguments = get_args(returned)
    if get_origin(returned) is not AsyncIterator or not arguments or not inspect.isasyncgenfunction(function):
        raise Misconfigured(f"{function.__qualname__}: must be an async generator annotated `-> AsyncIterator[Type]`")
    return Resource(function, arguments[0], _annotations(function))
