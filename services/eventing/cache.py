"""A versioned cache in Valkey: a slow reader cannot resurrect what an event has outdated.

Per entry it keeps a body, the floor (the version below which no fill is taken), and a ticket. A reader that misses
gets the ticket and must show it when it fills; every invalidation takes the ticket away (the lease of Facebook's
memcache paper, NSDI 2013, section 3.2.1) and raises the floor. Tickets are random: one that was given before the
server lost its memory is worth nothing after it.
"""

import asyncio
import json
import secrets
from importlib.resources import files
from typing import Any, Literal

from valkey.asyncio import Valkey
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff
from valkey.exceptions import ValkeyError

from eventing.errors import Misconfigured, Unavailable
from eventing.settings import Settings

TTL = 300  # seconds an entry lives and a floor is remembered: what a reader may see at worst when no event arrives
TICKET = 60  # seconds a ticket for an entry that is not there is good: longer than any read takes

Outcome = Literal["applied", "stale"]


class Cache:
    """Entries under one prefix. Every call is bounded; a cache that is away raises `Unavailable`."""

    def __init__(self, prefix: str, settings: Settings) -> None:
        """Describe the cache.

        Raises:
            Misconfigured: no URL is set, or it cannot be read.
        """
        if not settings.cache_url:
            raise Misconfigured("EVENTING_CACHE_URL is not set; give a valkey:// or redis:// URL")
        try:
            self._valkey = Valkey.from_url(
                settings.cache_url,
                socket_timeout=settings.cache_timeout,
                socket_connect_timeout=settings.cache_timeout,
                retry=Retry(NoBackoff(), 0),
                max_connections=100,
            )
        except ValueError as error:
            raise Misconfigured(f"EVENTING_CACHE_URL cannot be read: {error}") from None
        self._prefix, self._timeout = prefix, settings.cache_timeout
        self._look, self._fill, self._invalidate = (
            self._valkey.register_script((files("eventing") / "lua" / f"{name}.lua").read_text())
            for name in ("look", "fill", "invalidate")
        )

    async def __aenter__(self) -> "Cache":
        """Return the cache; connections open when they are used."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._valkey.aclose()

    async def get(self, key: str) -> tuple[Any | None, str]:
        """Return the body, None at a miss, and the ticket to fill with.

        Raises:
            Unavailable: the cache did not answer; read from the source, and do not fill.
        """
        body, ticket = await self._bounded(self._look(keys=[self._key(key)], args=[secrets.token_hex(8), TICKET]))
        return (json.loads(body) if body is not None else None), (ticket or b"").decode()

    async def fill(self, key: str, body: Any, version: int, ticket: str) -> bool:
        """Store what was read from the source; False when an event came between.

        Args:
            key: the entry.
            body: what `json` can write.
            version: the aggregate's version of it.
            ticket: from the `get` before the source was read.

        Raises:
            Unavailable: the cache did not answer.
        """
        arguments = [json.dumps(body), version, ticket, TTL]
        return bool(await self._bounded(self._fill(keys=[self._key(key)], args=arguments)))

    async def invalidate(self, key: str, version: int | None) -> Outcome:
        """Outdate everything before `version`, or everything when it is None.

        Returns:
            "stale" when the cache already knew of this version or a later one.

        Raises:
            Unavailable: the cache did not answer.
        """
        arguments = ["" if version is None else version, TTL]
        applied = await self._bounded(self._invalidate(keys=[self._key(key)], args=arguments))
        return "applied" if applied else "stale"

    async def check(self) -> None:
        """Raise unless the server answers; for readiness."""
        await self._bounded(self._valkey.ping())

    def _key(self, key: str) -> str:
        return f"{self._prefix}:{{{key}}}"

    async def _bounded(self, call: Any) -> Any:
        """Await an answer: a connection, a script that must be loaded and the call together have one timeout."""
        try:
            async with asyncio.timeout(self._timeout):
                return await call
        except (ValkeyError, OSError, TimeoutError) as error:
            raise Unavailable(f"the cache does not answer: {error or type(error).__name__}") from error
