"""Ours with a database: the inbox row and one insert in one transaction, for each event."""

from functools import partial

from eventing import Transaction
from workbench.bench.measured import measured
from workbench.bench.rows import SQL, row
from workbench.bench.tick import Tick

consumer, _job, ledger = measured()


@consumer.on(Tick)
async def handle(tick: Tick, tx: Transaction) -> None:
    """Insert the event; it is finished when the transaction is committed."""
    ledger.started(tick.number)
    await tx.execute(SQL["insert"], *row(tick))
    tx.after_commit("ledger", partial(ledger.finished, tick.number))
