"""A handler: a plain function, and what each of its parameters wants, read from the annotations."""

import asyncio
import contextvars
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from eventing.contract import Contract
from eventing.database import Transaction
from eventing.errors import Misconfigured
from eventing.event import Event

PAYLOAD: Any = Contract  # stands for the event's body among what a handler wants


@dataclass(frozen=True)
class Handler:
    """A function for one contract, or for every event when `contract` is None.

    `wants` maps its parameters to what they are given: `PAYLOAD`, `Event`, `Transaction`, or a resource's type.
    """

    call: Callable[..., Any]
    contract: type[Contract] | None
    wants: dict[str, Any]
    threaded: bool

    @property
    def transactional(self) -> bool:
        """True when the handler takes a transaction, and with it the inbox."""
        return Transaction in self.wants.values()

    @property
    def resources(self) -> set[type]:
        """Types that must be provided for it."""
        return {kind for kind in self.wants.values() if kind not in (PAYLOAD, Event, Transaction)}


class Bound:
    """A handler with its resources at hand: what is the same for every event is looked up once."""

    def __init__(self, handler: Handler, provided: dict[type, Any], threads: Executor | None) -> None:
        self.handler = handler
        self.transactional = handler.transactional
        self._call = handler.call
        self._threads = threads if handler.threaded else None
        self._fixed = {name: provided[kind] for name, kind in handler.wants.items() if kind in handler.resources}
        self._varying = [(name, kind) for name, kind in handler.wants.items() if kind not in handler.resources]

    def __call__(self, body: Any, event: Any, tx: Transaction | None = None) -> Awaitable[Any]:
        """Call the function; a sync one runs in a thread, since heartbeats share the event loop."""
        arguments = dict(self._fixed)
        for name, kind in self._varying:
            arguments[name] = body if kind is PAYLOAD else event if kind is Event else tx
        if self._threads is None:
            called: Awaitable[Any] = self._call(**arguments)
            return called
        return self._in_thread(partial(contextvars.copy_context().run, self._call, **arguments))

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        returned = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        return await returned if inspect.isawaitable(returned) else returned  # a plain decorator around an `async def`


def bind(call: Callable[..., Any], contract: type[Contract] | None) -> Handler:
    """Read what a handler wants.

    Raises:
        Misconfigured: a parameter has no annotation, names another contract, or is of no use to a sync function.
    """
    wants = {
        name: _wanted(call, name, kind, (contract,) if contract else ()) for name, kind in _annotations(call).items()
    }
    return Handler(call, contract, wants, threaded=_threaded(call, wants))


def bind_batch(call: Callable[..., Any], contracts: tuple[type[Contract], ...]) -> Handler:
    """Read what a batch handler wants: `list[Contract]` and `list[Event]` beside what every handler may have.

    Raises:
        Misconfigured: a parameter has no annotation, names a contract that is not registered, or is of no use to a
            sync function; or none takes the events.
    """
    wants = {}
    for name, kind in _annotations(call, lists=True).items():
        item = get_args(kind)[0] if get_origin(kind) is list else None
        if item is None and (kind is Event or (isinstance(kind, type) and issubclass(kind, Contract))):
            raise Misconfigured(
                f"{call.__qualname__}: {name} is one event; a batch handler takes list[{kind.__name__}]"
            )
        wants[name] = _wanted(call, name, item or kind, contracts)
    if not {PAYLOAD, Event} & set(wants.values()):
        raise Misconfigured(f"{call.__qualname__}: annotate a parameter with list[Contract] or list[Event]")
    handler = Handler(call, None, wants, threaded=_threaded(call, wants))
    return replace(handler, contract=contracts[0]) if len(contracts) == 1 else handler


def _threaded(call: Callable[..., Any], wants: dict[str, Any]) -> bool:
    """Tell whether a function runs in a thread, where it cannot await what a transaction does."""
    if not inspect.iscoroutinefunction(inspect.unwrap(call)):
        for name, kind in wants.items():
            if kind is Transaction:
                raise Misconfigured(
                    f"{call.__qualname__}: {name} is a Transaction, which only an `async def` can use; make it one"
                )
    return not inspect.iscoroutinefunction(call)


def _wanted(call: Callable[..., Any], name: str, kind: Any, contracts: tuple[type[Contract], ...]) -> Any:
    """Return what to give a parameter: the body, if it names registered contracts, or an instance of a type."""
    named = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if not all(issubclass(one, Contract) for one in named):
        return kind
    if not contracts or not {*named} <= {*contracts, Contract}:
        registered = ", ".join(c.__name__ for c in contracts) or "every event"
        raise Misconfigured(
            f"{call.__qualname__}: {name} is a {' or '.join(one.__name__ for one in named)}, but it is registered for "
            f"{registered}; annotate {name} with that"
        )
    return PAYLOAD


def _annotations(call: Callable[..., Any], *, lists: bool = False) -> dict[str, Any]:
    try:
        hints = get_type_hints(call)
    except NameError as error:
        raise Misconfigured(f"{call.__qualname__}: {error}; import the type at run time") from None
    wants = {}
    for name in inspect.signature(call).parameters:
        kind = hints.get(name)
        if not isinstance(kind, type) and not (lists and get_origin(kind) is list):
            raise Misconfigured(
                f"{call.__qualname__}: annotate {name} with a contract, Event, Transaction or a resource"
            )
        wants[name] = kind
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
