"""Ticks as rows of a table."""

from eventing.sql import load
from workbench.bench.tick import Tick

SQL = load("workbench.bench", "ticks")

Row = tuple[int, str, str, str, int, float, str, str | None]


def row(tick: Tick) -> Row:
    """Return the columns of a tick, in the order of the table."""
    return tick.number, tick.account, tick.symbol, tick.side, tick.quantity, tick.price, tick.venue, tick.note


def columns(ticks: list[Tick]) -> list[list[object]]:
    """Return the columns of many, each as a list: one statement for all of them."""
    return [list(column) for column in zip(*map(row, ticks), strict=True)]
