"""Ours: an ordinary consumer module; `eventing consume workbench.bench.evenkeel` runs it."""

from workbench.bench.measured import measured
from workbench.bench.tick import Tick

consumer, job, ledger = measured()


@consumer.on(Tick)
async def handle(tick: Tick) -> None:
    """Take as long as the shape says."""
    ledger.started(tick.number)
    await job.work()
    ledger.finished(tick.number)
