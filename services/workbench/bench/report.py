"""Figures and gates, for people and for programs."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from workbench.bench.figure import Figure
from workbench.bench.gates import Gate
from workbench.bench.shapes import Shape


def table(shape: Shape, found: Iterable[Figure]) -> Table:
    """Return the figures of one shape as a table."""
    made = Table(title=shape.title, title_justify="left")
    made.add_column("runner", no_wrap=True)
    for column in ("records", "a second", "CPU µs", "disorder", "doubles", "MiB"):
        made.add_column(column, justify="right")
    for f in found:
        numbers = (f.records, f.rate, f.cpu_us, f.order_violations, f.duplicates, f.rss_mib)
        made.add_row(f.runner, *(f"{number:,.0f}" for number in numbers))
    return made


def gates_table(gates: Iterable[Gate]) -> Table:
    """Return the gates as a table."""
    made = Table("shape", "gate", "found", "verdict", title="gates", title_justify="left")
    for gate in gates:
        colour = "red" if gate.missed else "dim" if gate.found is None else "green"
        found = "" if gate.found is None else f"{gate.found:,.3g}"
        made.add_row(gate.shape, gate.name, found, f"[{colour}]{gate.verdict}[/{colour}]")
    return made


def write_json(path: Path, found: Iterable[Figure]) -> None:
    """Write one object per shape and runner: `shape`, `runner`, `rate`, `order_violations`, `rss_mib` and more."""
    path.write_text(json.dumps([asdict(figure) for figure in found], indent=2) + "\n")
