"""A table of effects, for handlers that take a transaction."""

from eventing import Database


class Ledger:
    """The effects of one group."""

    def __init__(self, desk):
        self._desk, self._database = desk, Database(desk.database)

    async def __aenter__(self):
        await self._database.__aenter__()
        await self._database.execute("CREATE TABLE IF NOT EXISTS effects (grp text, key text, n int, xid bigint)")
        return self

    async def __aexit__(self, *error):
        await self._database.__aexit__(*error)

    async def add(self, tx, ticks):
        for tick in ticks:
            values = self._desk.group, tick.key, tick.n
            await tx.execute("INSERT INTO effects VALUES ($1, $2, $3, pg_current_xact_id()::text::bigint)", *values)

    async def rows(self):
        return await self._database.fetch("SELECT key, n, xid FROM effects WHERE grp = $1", self._desk.group)

    async def inbox(self):
        """Return how many events the inbox knows."""
        rows = await self._database.fetch("SELECT FROM eventing.inbox WHERE grp = $1", self._desk.group)
        return len(rows)

    async def has(self, count):
        async def enough():
            return len(await self.rows()) >= count

        await self._desk.until(enough)
