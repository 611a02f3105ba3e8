"""`bench consumer`: every runner on every shape, interleaved, then medians and gates."""

from collections.abc import AsyncIterator

from rich.console import Console

from workbench.bench.field import Field
from workbench.bench.figure import Figure, Run, figures
from workbench.bench.java import javac, parallel_consumer
from workbench.bench.plan import Plan, interleaved
from workbench.bench.report import table
from workbench.bench.shapes import PARALLEL, Shape
from workbench.bench.sink import Sink
from workbench.bench.store import Store
from workbench.bench.watch import RunFailedError
from workbench.broker import Broker
from workbench.deadline import NotReadyError
from workbench.home import Home


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
    console.print("starting Kafka" + (" and PostgreSQL" if plan.stores else ""))
    broker, sink = await Broker.start(home, progress=console.print), await Sink.start()
    home.on_close(sink.stop)
    store = await Store.start(home) if plan.stores else None
    return Field(home, broker, sink, store, await _java(home, console) if plan.uses(PARALLEL) else None)


async def _java(home: Home, console: Console) -> tuple[str, ...] | None:
    """Return how Parallel Consumer is started, None when it cannot be: its gates then read `not run`."""
    compiler = javac()
    if compiler is None:
        console.print("Parallel Consumer does not run: there is no javac; install a JDK of version 17 or newer")
        return None
    try:
        return await parallel_consumer(home, compiler, console.print)
    except NotReadyError as error:
        console.print(f"Parallel Consumer does not run: {error}", markup=False)
        return None


async def _runs(field: Field, shape: Shape, times: int, console: Console, failed: list[str]) -> AsyncIterator[Run]:
    runners = [runner for runner in shape.records if field.can(runner)]
    for turn, runner in interleaved(runners, times):
        said = f"  {shape.name:<9} {runner:<22} {turn + 1} of {times} "
        try:
            run = await field.run(shape, runner)
        except RunFailedError as error:
            failed.append(str(error))
            console.print(said, str(error), highlight=False, markup=False, style="red")
            continue
        console.print(said, f"{run.rate:>9,.0f}/s {run.cpu_us:>7,.1f} µs {run.rss_mib:>4.0f} MiB", highlight=False)
        yield run
