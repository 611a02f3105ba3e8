"""Reading users through the cache; without it, from the database."""

import time
import uuid

import structlog

from accounts import users
from accounts.users import User
from eventing import Database
from eventing.cache import Cache
from eventing.errors import Unavailable

REST = 1.0  # seconds between questions to a cache that is away: a silent one would delay every request

log = structlog.get_logger()


class Profiles:
    """Users, from the cache when it knows them."""

    def __init__(self, database: Database, cache: Cache) -> None:
        self._database = database
        self._cache = cache
        self._ask_again = 0.0  # monotonic seconds; 0 while the cache answers

    async def find(self, user_id: uuid.UUID) -> User | None:
        """Return a user, None when there is none.

        Raises:
            Unavailable: the database does not answer. A cache that does not is passed by.
        """
        found, ticket = await self._ask(str(user_id))
        if found is not None:
            return found
        user = await users.find(self._database, user_id)
        if user is not None and ticket is not None:
            await self._fill(user, ticket)
        return user

    async def _ask(self, key: str) -> tuple[User | None, str | None]:
        if time.monotonic() < self._ask_again:
            return None, None
        try:
            found, ticket = await self._cache.get(key)
        except Unavailable as error:
            self._away(error)
            return None, None
        if self._ask_again:
            log.info("cache_back")
            self._ask_again = 0.0
        return (User.of(found) if found else None), ticket

    async def _fill(self, user: User, ticket: str) -> None:
        try:
            await self._cache.fill(str(user.id), user.facts(), user.version, ticket)
        except Unavailable as error:
            self._away(error)

    def _away(self, error: Unavailable) -> None:
        """Leave the cache alone for a while; an outage is logged once, not per request."""
        if not self._ask_again:
            log.warning("cache_away", error=str(error))
        self._ask_again = time.monotonic() + REST
