"""Reading users through the cache; without it, from the database."""

import uuid
from typing import Any

import structlog

from accounts import users
from accounts.users import User
from eventing import Database
from eventing.cache import Cache
from eventing.errors import Unavailable

log = structlog.get_logger()


class Profiles:
    """Users, from the cache when it knows them."""

    def __init__(self, database: Database, cache: Cache) -> None:
        self._database = database
        self._cache = cache
        self._outage = False  # an outage of the cache is logged once, not per request

    async def find(self, user_id: uuid.UUID) -> User | None:
        """Return a user, None when there is none.

        Raises:
            Unavailable: the database does not answer. A cache that does not is passed by.
        """
        found, ticket = await self._ask(str(user_id))
        if found is not None:
            return User(**found | {"id": uuid.UUID(found["id"])})
        user = await users.find(self._database, user_id)
        if user is not None and ticket is not None:
            await self._fill(user, ticket)
        return user

    async def _ask(self, key: str) -> tuple[dict[str, Any] | None, str | None]:
        try:
            found, ticket = await self._cache.get(key)
        except Unavailable as error:
            self._away(error)
            return None, None
        self._outage = False
        return found, ticket

    async def _fill(self, user: User, ticket: str) -> None:
        try:
            await self._cache.fill(str(user.id), user.facts(), user.version, ticket)
        except Unavailable as error:
            self._away(error)

    def _away(self, error: Unavailable) -> None:
        if not self._outage:
            log.warning("cache_passed_by", reason=str(error))
        self._outage = True
