"""Who relays which bucket: leases in the database, by the database's clock, shared fairly.

A lease saves work, it is not a lock: a relay that outlives its lease can only send late duplicates, since every
relay sends each key's rows in order from the first one that is still there.
"""

import math
import socket
import time
import uuid

import structlog

from eventing.database import Database
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

    async def renew(self) -> None:
        """Heartbeat, keep ours up to a fair share, give back the surplus, claim what nobody holds.

        Call between batches only: then no row of a bucket that is given back is under way.
        """
        started = time.monotonic()
        async with self._database.transaction() as tx:
            await tx.execute(_SQL["heartbeat"], self.owner, self._seconds)
            alive = await tx.fetchval(_SQL["alive"], self._seconds)
            share = math.ceil(BUCKETS / max(alive, 1))
            kept = {row["bucket"] for row in await tx.fetch(_SQL["renew"], self.owner, self._seconds)}
            if surplus := sorted(kept)[share:]:
                await tx.execute(_SQL["release"], self.owner, surplus)
            claimed = await tx.fetch(_SQL["claim"], self.owner, self._seconds, max(share - len(kept), 0))
        self._note(kept, set(surplus), {row["bucket"] for row in claimed})
        self._until, self._renew_at = started + self._seconds, started + self._seconds / 3

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
        self._buckets = set()
