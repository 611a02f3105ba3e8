"""The database of the database shapes."""

from dataclasses import dataclass

import asyncpg

from eventing.migrate import migrate
from workbench.bench.rows import SQL
from workbench.home import Home
from workbench.postgres import Postgres


@dataclass(frozen=True)
class Store:
    """A database with the library's tables and one for ticks."""

    url: str

    @classmethod
    async def start(cls, home: Home) -> "Store":
        """Start PostgreSQL and create the tables."""
        postgres = await Postgres.start(home)
        store = cls(await postgres.create_database("bench"))
        await migrate(store.url)
        await store._execute(SQL["create"], SQL["maintain"])
        return store

    async def empty(self) -> None:
        """Forget what the run before wrote."""
        await self._execute(SQL["empty"], SQL["checkpoint"])

    async def _execute(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()
