"""Outdate the cached profile of every user an event tells of."""

from collections.abc import AsyncIterator

from contracts.users import CACHE, TOPIC
from eventing import STALE, Consumer, Event, Overload
from eventing.cache import Cache
from eventing.metrics import CACHE_INVALIDATIONS
from eventing.settings import Settings
from eventing.tracing import effect

consumer = Consumer(group="profile-cache", topics=(TOPIC,))


@consumer.resource
async def cache(settings: Settings) -> AsyncIterator[Cache]:
    """Open the cache that accounts reads through."""
    async with Cache(CACHE, settings) as opened:
        yield opened


@consumer.on_any
async def invalidate(event: Event, cache: Cache) -> object:
    """Drop what is older than the event; one without a version drops what is there."""
    with effect("cache invalidate"):
        try:
            outcome = await cache.invalidate(event.key, event.version)
        except Overload:
            CACHE_INVALIDATIONS.labels("error").inc()
            raise
    CACHE_INVALIDATIONS.labels(outcome).inc()
    return STALE if outcome == "stale" else None
