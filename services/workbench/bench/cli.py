"""`bench`: its commands and flags."""

import json
import signal
from collections.abc import Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from workbench import ending
from workbench.bench import relay as relays
from workbench.bench.consumer import measure
from workbench.bench.gates import evaluate
from workbench.bench.plan import Plan
from workbench.bench.plot import draw
from workbench.bench.report import gates_table, write_json
from workbench.bench.shapes import RUNNERS, SHAPES
from workbench.output import writable

T = TypeVar("T")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


def _file(flag: str, words: str) -> Any:
    return typer.Option(flag, metavar="FILE", dir_okay=False, callback=writable, help=words)


@app.callback()
def bench() -> None:
    """Measure the product beside its peers, on real parts."""


@app.command()
def consumer(
    runs: Annotated[int, typer.Option(min=1, help="Runs of each runner; the median counts")] = 5,
    shape: Annotated[list[str] | None, typer.Option(help=f"Only this shape: {', '.join(SHAPES)}")] = None,
    runner: Annotated[list[str] | None, typer.Option(help=f"Only this runner: {', '.join(RUNNERS)}")] = None,
    json_file: Annotated[Path | None, _file("--json", "Write the figures")] = None,
    picture: Annotated[Path | None, _file("--plot", "Draw the figures as SVG")] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="One run with a tenth of the records; gates nothing")] = False,
) -> None:
    """Measure the consumer beside FastStream, aiokafka alone, Parallel Consumer and bare asyncpg loops."""
    console = Console()
    plan = Plan.of(shape or list(SHAPES), runner or list(RUNNERS), 1 if quick else runs, quick=quick)
    found, failed = _to_the_end(measure(plan, console), console)
    gates = evaluate(found)
    console.print(gates_table(gates))
    if json_file:
        write_json(json_file, found)
    if picture:
        draw(found, picture)
    full = not (quick or shape or runner)
    raise SystemExit(1 if failed or (full and any(gate.missed for gate in gates)) else 0)


@app.command()
def relay(
    runs: Annotated[int, typer.Option(min=1, help="Runs of each runner; the median counts")] = 3,
    json_file: Annotated[Path | None, _file("--json", "Write the figures")] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="One run with a tenth of the rows; gates nothing")] = False,
) -> None:
    """Measure the relay beside aiokafka's producer alone, and how long an event waits for its handler."""
    console = Console()
    rates, latency = _to_the_end(relays.measure(runs, console, quick=quick), console)
    gates = relays.gates(rates, latency)
    console.print(relays.table(rates, latency), gates_table(gates))
    if json_file:
        json_file.write_text(json.dumps({"rates": rates, "latency_ms": asdict(latency)}, indent=2) + "\n")
    raise SystemExit(1 if not quick and any(gate.missed for gate in gates) else 0)


def _to_the_end(work: Coroutine[Any, Any, T], console: Console) -> T:
    try:
        return ending.run(work)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is leaving already
        console.print("stopped; nothing is left running")
        raise SystemExit(130) from None
