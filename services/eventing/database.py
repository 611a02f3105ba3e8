"""PostgreSQL: one pool per process, short transactions, every wait bounded."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from eventing.errors import Misconfigured, Unavailable
from eventing.settings import Settings

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

# Seconds a transaction may lie idle before the server ends it: a process that is frozen must not hold its locks for
# ever. A pooler takes no such setting from us; there, set it for the role.
IDLE_LIMIT = 60

# Errors that say the server is away, restarting, full, or has become a standby; the same call succeeds later.
_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.AdminShutdownError,
    asyncpg.exceptions.CrashShutdownError,
    asyncpg.exceptions.CannotConnectNowError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,
)
_ASYNCPG = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# Errors of two transactions that met; the same transaction succeeds when it is run again.
CONTENTION = (asyncpg.exceptions.SerializationError, asyncpg.exceptions.DeadlockDetectedError)


class Transaction:
    """One open transaction. A handler that takes one finds its inbox row already written in it.

    `connection` is asyncpg's, for what the methods here do not offer.
    """

    def __init__(self, connection: "Connection", database: "Database") -> None:
        self.connection = connection
        self.database = database
        self._after_commit: dict[str, Callable[[], None]] = {}

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement; returns PostgreSQL's command tag."""
        return await self.connection.execute(query, *args)

    async def fetch(self, query: str, *args: object) -> "list[asyncpg.Record]":
        """Return every row."""
        return await self.connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: object) -> "asyncpg.Record | None":
        """Return the first row, or None."""
        return await self.connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: object) -> Any:
        """Return the first column of the first row, or None."""
        return await self.connection.fetchval(query, *args)

    def after_commit(self, name: str, call: Callable[[], None]) -> None:
        """Call once after this transaction has committed; a later call of the same name replaces it."""
        self._after_commit[name] = call

    def committed(self) -> None:
        """Run what waited for the commit; called by `Database.transaction`."""
        for call in self._after_commit.values():
            call()


class Database:
    """A pool of connections to one database; opening it does not need the server to be up."""

    def __init__(self, url: str, *, pool: int = 10, timeout: float = 10.0, pooler: bool = False) -> None:
        """Describe the pool.

        Args:
            url: postgresql:// URL.
            pool: connections at most.
            timeout: seconds to wait for a connection, and for a statement.
            pooler: True behind a transaction pooler, which has no prepared statements.
        """
        self.url = url
        self.timeout = timeout
        self.pooler = pooler
        self._size = pool
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._lent: set[int] = set()  # server processes whose session may not be as it was
        self._background: set[asyncio.Task[None]] = set()

    @classmethod
    def of(cls, settings: Settings) -> "Database":
        """Return the database of the settings.

        Raises:
            Misconfigured: no URL is set.
        """
        if not settings.database_url:
            raise Misconfigured("EVENTING_DATABASE_URL is not set; give a postgresql:// URL, best as a mounted file")
        return cls(
            settings.database_url,
            pool=settings.database_pool,
            timeout=settings.database_timeout,
            pooler=settings.database_pooler,
        )

    async def __aenter__(self) -> "Database":
        """Open the pool."""
        try:
            self._pool = await asyncpg.create_pool(
                self.url,
                min_size=0,
                max_size=self._size,
                timeout=self.timeout,
                command_timeout=self.timeout,
                reset=self._reset,
                statement_cache_size=0 if self.pooler else 100,
                server_settings={} if self.pooler else {"idle_in_transaction_session_timeout": f"{IDLE_LIMIT}s"},
            )
        except (ValueError, asyncpg.exceptions.ClientConfigurationError) as error:
            raise Misconfigured(f"EVENTING_DATABASE_URL cannot be read: {error}") from None
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the pool; connections that do not close within the timeout are cut."""
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background, timeout=self.timeout)  # they give their connections back
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), self.timeout)
            except TimeoutError:
                pool.terminate()

    @asynccontextmanager
    async def connection(self) -> "AsyncIterator[Connection]":
        """Borrow a connection outside of a transaction; its session is reset afterwards.

        Raises:
            Unavailable: no connection within the timeout, or it was lost on the way.
        """
        async with self._connection() as connection:
            self._lent.add(connection.get_server_pid())
            yield connection

    async def _reset(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Undo what a borrower did to the session: a round trip that no transaction has to pay."""
        if (process := connection.get_server_pid()) in self._lent:
            self._lent.discard(process)
            await connection.execute(connection.get_reset_query())

    @asynccontextmanager
    async def _connection(self) -> "AsyncIterator[Connection]":
        assert self._pool is not None, "open the database first: `async with database:`"  # noqa: S101
        try:
            connection = await self._pool.acquire(timeout=self.timeout)
        except (OSError, TimeoutError, *_ASYNCPG) as error:
            raise Unavailable(f"the database gives no connection: {error or 'time is up'}") from error
        try:
            yield connection
        except _ASYNCPG as error:
            if is_outage(error):
                if isinstance(error, asyncpg.exceptions.ReadOnlySQLTransactionError):
                    connection.terminate()  # the writer is elsewhere now; the next connection looks for it
                raise Unavailable(f"the database went away: {error}") from error
            raise
        finally:
            await self._release(connection)

    async def _release(self, connection: "Connection") -> None:
        try:
            await self._pool.release(connection, timeout=self.timeout)  # type: ignore[union-attr]  # open while borrowed
        except (OSError, TimeoutError, *_ASYNCPG):
            with suppress(asyncpg.InterfaceError):  # the pool has cut it already
                connection.terminate()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Run a transaction: committed when the block ends, rolled back when it raises.

        What outlives a transaction (`SET`, `LISTEN`, advisory locks of the session) has no place in one: the next one
        on this connection would find it, as behind a transaction pooler. Use `SET LOCAL`, or `connection`.
        """
        async with self._connection() as connection:
            tx = Transaction(connection, self)
            async with connection.transaction():
                yield tx
        tx.committed()

    async def fetch(self, query: str, *args: object) -> "list[asyncpg.Record]":
        """Return every row of a single statement."""
        async with self._connection() as connection:
            return await connection.fetch(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        """Run a single statement; returns PostgreSQL's command tag."""
        async with self._connection() as connection:
            return await connection.execute(query, *args)

    async def fetchrow(self, query: str, *args: object) -> "asyncpg.Record | None":
        """Return the first row of a single statement, or None."""
        async with self._connection() as connection:
            return await connection.fetchrow(query, *args)

    async def check(self) -> None:
        """Raise unless the server answers; for readiness."""
        await self.execute("SELECT 1")

    def later(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run something in the background, bounded by the timeout; a failure is dropped (it is only a hint)."""
        task = asyncio.create_task(self._quietly(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _quietly(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await asyncio.wait_for(work(), self.timeout)
        except (Unavailable, TimeoutError, asyncpg.PostgresError):
            return


def is_outage(error: BaseException) -> bool:
    """Tell an outage of PostgreSQL from an error of the code that uses it."""
    if isinstance(error, asyncpg.InternalClientError):
        return True  # the connection was cut in the middle of an operation, and asyncpg has lost its place
    if isinstance(error, asyncpg.InterfaceError):
        return "closed" in str(error)  # otherwise it is a mistake in the use of asyncpg
    return isinstance(error, _AWAY)
