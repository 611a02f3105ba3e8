"""asyncpg alone, without Kafka: the same statements in the same transactions on so many connections."""

import asyncio
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime

import asyncpg
from uuid_utils import uuid7

from eventing.sql import load
from workbench.bench.job import Job
from workbench.bench.ledger import Ledger
from workbench.bench.rows import SQL, columns, row
from workbench.bench.tick import Tick, tick

CLAIM = load("eventing", "inbox")["claim"]
SIZES = {"row": 1, "batch": 500}

Batch = tuple[list[Tick], list[str]]


async def main(mode: str) -> None:
    """Run one mode, then wait to be stopped."""
    job = Job.read()
    ledger = Ledger(records=job.records, keys=job.keys, result=job.result)
    today, batches = datetime.now(UTC).date(), iter(_batches(job, SIZES[mode]))
    ledger.begin()
    async with asyncpg.create_pool(job.database, min_size=job.connections, max_size=job.connections) as pool:
        async with asyncio.TaskGroup() as group:
            for _ in range(job.connections):
                group.create_task(_write(pool, job, ledger, today, batches))
        await asyncio.Event().wait()


def _batches(job: Job, size: int) -> list[Batch]:
    """Return everything to write, made before the clock starts."""
    ticks = [tick(number, job.keys) for number in range(job.records)]
    return [(chunk, [str(uuid7()) for _ in chunk]) for chunk in _chunks(ticks, size)]


def _chunks(ticks: list[Tick], size: int) -> Iterator[list[Tick]]:
    return (ticks[start : start + size] for start in range(0, len(ticks), size))


async def _write(
    pool: "asyncpg.Pool[asyncpg.Record]", job: Job, ledger: Ledger, today: date, batches: Iterator[Batch]
) -> None:
    async with pool.acquire() as connection:
        for ticks, ids in batches:
            ledger.started_together([each.number for each in ticks])
            async with connection.transaction():
                if len(ticks) == 1:
                    await connection.fetchval(CLAIM, today, job.group, ids[0])
                    await connection.execute(SQL["insert"], *row(ticks[0]))
                else:
                    await connection.fetch(SQL["claim_many"], job.group, [today] * len(ids), ids)
                    await connection.execute(SQL["insert_many"], *columns(ticks))
            for written in ticks:
                ledger.finished(written.number)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
