"""FastStream: `ack` keeps every record, one after another; `ack-first` commits first and runs a hundred at once."""

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker

from workbench.bench.job import Job
from workbench.bench.ledger import Ledger
from workbench.bench.tick import Tick


def _subscribe(broker: KafkaBroker, job: Job, mode: str) -> Callable[..., Any]:
    subscribe = partial(
        broker.subscriber,
        job.topic,
        group_id=job.group,
        auto_offset_reset="earliest",
        isolation_level="read_committed",  # as ours
    )
    if mode == "ack":
        return subscribe(ack_policy=AckPolicy.ACK)
    return subscribe(ack_policy=AckPolicy.ACK_FIRST, max_workers=job.concurrency)


async def main(mode: str) -> None:
    """Run one mode until stopped."""
    job = Job.read()
    ledger = Ledger(records=job.records, keys=job.keys, result=job.result)
    broker = KafkaBroker(job.bootstrap, logger=None)  # by default it writes two lines a record

    async def handle(tick: Tick) -> None:
        ledger.started(tick.number)
        await job.work()
        ledger.finished(tick.number)

    _subscribe(broker, job, mode)(handle)
    app = FastStream(broker, logger=None)
    app.on_startup(ledger.begin)
    await app.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
