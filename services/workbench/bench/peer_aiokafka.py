"""aiokafka alone: `serial` commits each record, `ceiling` polls and validates and does nothing else."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer

from workbench.bench.job import Job
from workbench.bench.ledger import Ledger
from workbench.bench.tick import Tick


def _client(job: Job) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        job.topic,
        bootstrap_servers=job.bootstrap,
        group_id=job.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",  # as ours
    )


async def serial(job: Job, ledger: Ledger) -> None:
    """Handle one record after another and commit each."""
    async with _client(job) as client:
        async for record in client:
            tick = Tick.model_validate_json(record.value)
            ledger.started(tick.number)
            await job.work()
            ledger.finished(tick.number)
            await client.commit()


async def ceiling(job: Job, ledger: Ledger) -> None:
    """Poll and validate; the numbers are checked when the clock has stopped."""
    numbers: list[int] = []
    async with _client(job) as client:
        while len(numbers) < job.records:
            for records in (await client.getmany(timeout_ms=200)).values():
                numbers += [Tick.model_validate_json(record.value).number for record in records]
        ledger.stop()
        for number in numbers:
            ledger.started(number)
            ledger.finished(number)
        await asyncio.Event().wait()


MODES: dict[str, Callable[[Job, Ledger], Awaitable[None]]] = {"serial": serial, "ceiling": ceiling}


async def main(mode: str) -> None:
    """Run one mode until stopped."""
    job = Job.read()
    ledger = Ledger(records=job.records, keys=job.keys, result=job.result)
    ledger.begin()
    await MODES[mode](job, ledger)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
