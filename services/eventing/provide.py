"""Opens what handlers ask for by type, and closes it in reverse."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from eventing.consumer import Consumer
from eventing.database import Database
from eventing.errors import Misconfigured
from eventing.fence import PostgresFence
from eventing.handler import Handler
from eventing.port import Fence
from eventing.settings import Settings


@asynccontextmanager
async def provide(
    consumer: Consumer, settings: Settings, given: dict[type, Any] | None = None
) -> AsyncIterator[dict[type, Any]]:
    """Open what the handlers need, in the order it was declared; close it in reverse. What is `given` is not opened.

    Raises:
        Misconfigured: a handler or a resource names a type that nothing provides.
    """
    provided: dict[type, Any] = {Settings: settings} | (given or {})
    handlers = consumer.all_handlers
    async with AsyncExitStack() as stack:
        if Database not in provided and _needs_database(consumer, handlers, provided):
            provided[Database] = await stack.enter_async_context(Database.of(settings))
        if Fence not in provided and consumer.exhausted == "park_key":
            provided[Fence] = PostgresFence(provided[Database], consumer.group)
        for resource in consumer.resources:
            if resource.provides in provided:
                continue
            arguments = {
                name: _find(provided, kind, resource.open.__qualname__) for name, kind in resource.wants.items()
            }
            provided[resource.provides] = await stack.enter_async_context(
                asynccontextmanager(resource.open)(**arguments)
            )
        for handler in handlers:
            for kind in handler.resources:
                _find(provided, kind, handler.call.__qualname__)
        yield provided


def _needs_database(consumer: Consumer, handlers: list[Handler], provided: dict[type, Any]) -> bool:
    wants = [*(h.wants for h in handlers), *(r.wants for r in consumer.resources)]
    named = any(Database in wanted.values() for wanted in wants)
    parks = consumer.exhausted == "park_key" and Fence not in provided
    return named or parks or any(h.transactional for h in handlers)


def _find(provided: dict[type, Any], kind: type, who: str) -> Any:
    if kind not in provided:
        raise Misconfigured(f"{who} wants a {kind.__name__}, which nothing provides; add a @consumer.resource for it")
    return provided[kind]
