"""Wake a relay when there is work: hints of the writers, calls of other relays.

Only a hint: what is lost here is found by polling. LISTEN needs a direct connection, so there is none behind a pooler.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import asyncpg

from eventing.database import Database

CHANNEL = "eventing_outbox"
PROBE = 5.0  # seconds between looks whether the connection still works, and between attempts to get one


class Wake:
    """A connection that listens, made anew whenever it is lost."""

    def __init__(self, database: Database, heard: Callable[[str], None]) -> None:
        """Describe what listens; `heard` gets the words of each notification."""
        self._database = database
        self._heard = heard

    async def listen(self) -> None:
        """Listen until cancelled."""
        while not self._database.pooler:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._once()
            await asyncio.sleep(PROBE)

    async def _once(self) -> None:
        limit = self._database.timeout
        connection = await asyncpg.connect(self._database.url, timeout=limit, command_timeout=limit)
        gone = asyncio.Event()
        connection.add_termination_listener(lambda _: gone.set())
        try:
            await connection.add_listener(CHANNEL, lambda *heard: self._heard(str(heard[3])))
            while not await _set_within(gone, PROBE):
                if await connection.fetchval("SELECT pg_is_in_recovery()"):
                    return  # it has become a standby, where nobody notifies
        finally:
            connection.terminate()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
