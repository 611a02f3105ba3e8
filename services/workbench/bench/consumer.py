"""`bench consumer`: every runner on every shape, interleaved, then medians and gates."""

from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass

from rich.console import Console
from typer import BadParameter

from workbench.bench.field import Field
from workbench.bench.figure import Figure, Run, figures
from workbench.bench.java import javac, parallel_consumer
from workbench.bench.report import table
from workbench.bench.shapes import PARALLEL, RUNNERS, SHAPES, Shape
from workbench.bench.sink import Sink
from workbench.bench.store import Store
from workbench.bench.watch import RunFailedError
from workbench.broker import Broker
from workbench.home import Home


@dataclass(frozen=True)
class Plan:
    """What to run: shapes with the runners that were asked for, and how many times."""

    shapes: list[Shape]
    runs: int

    @classmethod
    def of(cls, shapes: Collection[str], runners: Collection[str], runs: int, *, quick: bool) -> "Plan":
        """Return the plan for these shapes and runners, by name.

        Raises:
            typer.BadParameter: nothing has that name, or no such runner takes part in such a shape.
        """
        _known("shape", shapes, SHAPES)
        _known("runner", runners, RUNNERS)
        chosen = [SHAPES[name].only(runners) for name in SHAPES if name in shapes]
        chosen = [shape.quick() if quick else shape for shape in chosen if shape.records]
        if not chosen:
            raise BadParameter(f"none of {', '.join(runners)} takes part in {', '.join(shapes)}")
        return cls(chosen, runs)

    def uses(self, runner: str) -> bool:
        """Tell whether a runner takes part."""
        return any(runner in shape.records for shape in self.shapes)


def _known(what: str, names: Collection[str], known: Collection[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise BadParameter(f"no {what} {', '.join(unknown)}; there are {', '.join(known)}")


async def measure(plan: Plan, console: Console) -> tuple[list[Figure], list[str]]:
    """Start the parts, run the plan and print a table per shape; returns the figures, and the runs that failed."""
    found, failed = list[Figure](), list[str]()
    async with Home.open() as home:
        field = await _field(home, plan, console)
        for shape in plan.shapes:
            runs = [run async for run in _runs(field, shape, plan.runs, console, failed)]
            found += figures(runs)
            console.print(table(shape, figures(runs)))
    return found, failed


async def _field(home: Home, plan: Plan, console: Console) -> Field:
    console.print("starting Kafka" + (" and PostgreSQL" if any(shape.connections for shape in plan.shapes) else ""))
    broker, sink = await Broker.start(home, progress=console.print), await Sink.start()
    home.on_close(sink.stop)
    store = await Store.start(home) if any(shape.connections for shape in plan.shapes) else None
    compiler = javac() if plan.uses(PARALLEL) else None
    java = await parallel_consumer(home, compiler, console.print) if compiler else None
    if plan.uses(PARALLEL) and not java:
        console.print("no JDK here (no javac): Parallel Consumer does not run")
    return Field(home, broker, sink, store, java)


async def _runs(field: Field, shape: Shape, times: int, console: Console, failed: list[str]) -> AsyncIterator[Run]:
    runners = [runner for runner in shape.records if field.can(shape, runner)]
    for turn, runner in interleaved(runners, times):
        said = f"  {shape.name:<9} {runner:<22} {turn + 1} of {times} "
        try:
            run = await field.run(shape, runner)
        except RunFailedError as error:
            failed.append(str(error))
            console.print(said, f"[red]{error}[/red]", highlight=False)
            continue
        console.print(said, f"{run.rate:>9,.0f}/s", highlight=False)
        yield run


def interleaved(runners: list[str], times: int) -> Iterator[tuple[int, str]]:
    """Return the turns A B, B A, A B …: what drifts on the machine meets everybody."""
    for turn in range(times):
        for runner in runners if turn % 2 == 0 else reversed(runners):
            yield turn, runner
