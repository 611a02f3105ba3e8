"""Who relays which bucket: leases in the database, by the database's clock, shared fairly.

A lease saves work, it is not a lock: a relay that outlives its lease can only send late duplicates, since every
relay sends each key's rows in order from the first one that is still there.
"""

import math
import socket
import time
import uuid

import structlog

from eventing.database import Database, Transaction
from eventing.floor import Floors
from eventing.metrics import OUTBOX_LEASE_CHANGES, OUTBOX_LEASED
from eventing.outbox import BUCKETS
from eventing.sql import load

_SQL = load("eventing", "lease")

log = structlog.get_logger()


class Leases:
    """The buckets of one relay."""

    def __init__(self, database: Database, *, seconds: float) -> None:
        """Describe the leases.

        Args:
            database: holds the outbox and the leases.
            seconds: how long a bucket stays ours without renewal; renewed every third of it.
        """
        self.owner = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self.floors = Floors(database)
        self._database = database
        self._seconds = seconds
        self._buckets: set[int] = set()
        self._until = 0.0
        self._renew_at = 0.0

    @property
    def buckets(self) -> list[int]:
        """Buckets that are surely ours now; empty once the lease may have run out."""
        return sorted(self._buckets) if time.monotonic() < self._until else []

    @property
    def due(self) -> bool:
        """True when it is time to renew."""
        return time.monotonic() >= self._renew_at

    def recall(self) -> None:
        """Renew at the next opportunity: another relay has given buckets up."""
        self._renew_at = 0.0

    async def renew(self) -> None:
        """Heartbeat, keep ours up to a fair share, give back the surplus, claim what nobody holds.

        Call between batches only: then no row of a bucket that is given back is under way.
        """
        started = time.monotonic()
        async with self._database.transaction() as tx:
            await tx.execute(_SQL["relax"])
            await tx.execute(_SQL["heartbeat"], self.owner, self._seconds)
            alive = await tx.fetchval(_SQL["alive"], self._seconds)
            share = math.ceil(BUCKETS / max(alive, 1))
            kept = await self._keep(tx)
            surplus = set(sorted(kept)[share:])
            await self._release(tx, surplus)
            claimed = await self._claim(tx, max(share - len(kept), 0))
            if not self._buckets and len(claimed) < share:
                await tx.execute(_SQL["call"])  # we have just come, and the others have too many
            server = await tx.fetchval(_SQL["server"])
        ours = {bucket: floor for bucket, floor in (kept | claimed).items() if bucket not in surplus}
        self.floors.learn(server, ours)
        self._note(set(kept), surplus, set(claimed))
        self._until, self._renew_at = started + self._seconds, started + self._seconds / 3

    async def _keep(self, tx: Transaction) -> dict[int, int]:
        known = self.floors.known
        floors = self.floors.server, list(known), list(known.values())
        return {
            row["bucket"]: row["floor"] for row in await tx.fetch(_SQL["renew"], self.owner, self._seconds, *floors)
        }

    async def _release(self, tx: Transaction, surplus: set[int]) -> None:
        if surplus:
            await tx.execute(_SQL["release"], self.owner, sorted(surplus))
            await tx.execute(_SQL["call"])

    async def _claim(self, tx: Transaction, most: int) -> dict[int, int]:
        if not most:
            return {}
        found = await tx.fetch(_SQL["claim"], self.owner, self._seconds, most)
        return {row["bucket"]: row["floor"] for row in found}

    def _note(self, kept: set[int], surplus: set[int], claimed: set[int]) -> None:
        lost = self._buckets - kept
        self._buckets = (kept - surplus) | claimed
        OUTBOX_LEASED.set(len(self._buckets))
        for reason, buckets in (("lost", lost), ("released", surplus), ("claimed", claimed)):
            if buckets:
                OUTBOX_LEASE_CHANGES.labels(reason).inc(len(buckets))
                log.info("outbox_buckets", change=reason, buckets=len(buckets), owned=len(self._buckets))

    async def leave(self) -> None:
        """Give everything back, so that the others need not wait for the leases to run out."""
        async with self._database.transaction() as tx:
            await tx.execute(_SQL["release"], self.owner, sorted(self._buckets))
            await tx.execute(_SQL["leave"], self.owner)
            await tx.execute(_SQL["call"])
        self._buckets = set()
