"""What our measured consumer modules share: the job, the ledger and a consumer whose clock starts as it joins."""

from collections.abc import AsyncIterator

from eventing import Consumer
from workbench.bench.job import Job
from workbench.bench.ledger import Ledger
from workbench.bench.tick import Tick


def measured() -> tuple[Consumer, Job, Ledger]:
    """Return the consumer of this process without a handler, its job and its ledger."""
    job = Job.read()
    ledger = Ledger(records=job.records, keys=job.keys, result=job.result)
    Tick.event_topic = job.topic  # each shape has topics of its own
    consumer = Consumer(group=job.group)

    @consumer.resource
    async def clock() -> AsyncIterator[Ledger]:
        ledger.begin()  # resources open when the process is about to join its group
        yield ledger

    return consumer, job, ledger
