"""Opens what handlers ask for by type, and closes it in reverse."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from eventing.consumer import Consumer
from eventing.database import Database
from eventing.errors import Misconfigured
from eventing.handler import Handler
from eventing.settings import Settings


@asynccontextmanager
async def provide(consumer: Consumer, settings: Settings) -> AsyncIterator[dict[type, Any]]:
    """Open what the handlers need, in the order it was declared; close it in reverse.

    Raises:
        Misconfigured: a handler or a resource names a type that nothing provides.
    """
    provided: dict[type, Any] = {Settings: settings}
    handlers = [*consumer.handlers.values(), *([consumer.catch_all] if consumer.catch_all else [])]
    async with AsyncExitStack() as stack:
        if any(h.transactional for h in handlers) or _names(consumer, handlers, Database):
            provided[Database] = await stack.enter_async_context(Database.of(settings))
        for resource in consumer.resources:
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


def _names(consumer: Consumer, handlers: list[Handler], kind: type) -> bool:
    wants = [*(h.wants for h in handlers), *(r.wants for r in consumer.resources)]
    return any(kind in wanted.values() for wanted in wants)


def _find(provided: dict[type, Any], kind: type, who: str) -> Any:
    if kind not in provided:
        raise Misconfigured(f"{who} wants a {kind.__name__}, which nothing provides; add a @consumer.resource for it")
    return provided[kind]
