"""Ours with a database, by batches: 500 inbox rows and 500 inserts in one transaction."""

from functools import partial

from eventing import Transaction
from workbench.bench.measured import measured
from workbench.bench.rows import SQL, columns
from workbench.bench.tick import Tick

SIZE = 500

consumer, _job, ledger = measured()


@consumer.on_batch(Tick, size=SIZE)
async def handle(ticks: list[Tick], tx: Transaction) -> None:
    """Insert the events; they are finished when the transaction is committed."""
    ledger.started_together([tick.number for tick in ticks])
    await tx.execute(SQL["insert_many"], *columns(ticks))
    tx.after_commit("ledger", partial(_finished, ticks))


def _finished(ticks: list[Tick]) -> None:
    for tick in ticks:
        ledger.finished(tick.number)
