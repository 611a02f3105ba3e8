"""`bench relay`: relays on a backlog beside aiokafka's producer alone, a hot key, and how long an event waits."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from statistics import median

from rich.console import Console
from rich.table import Table

from workbench.bench.gates import Gate
from workbench.bench.relay_latency import Latency, measure_latency
from workbench.bench.relay_yard import Yard
from workbench.home import Home

ONE, FOUR, HOT, PEER = "one relay", "four relays", "one relay, one key", "aiokafka's producer"
RELAYS = {ONE: 1, FOUR: 4, HOT: 1}
ROWS, KEYS, HOT_ROWS = 40_000, 1_000, 20_000


async def measure(runs: int, console: Console, *, quick: bool) -> tuple[dict[str, list[float]], Latency]:
    """Return the rates of each runner, in events of 1 KB a second, and the latency at 500 events a second."""
    rates: dict[str, list[float]] = defaultdict(list)
    async with Home.open() as home, Yard.open(home) as yard:
        async for name, rate in _rates(yard, 1 if quick else runs, 10 if quick else 1):
            console.print(f"  {name:<20} {rate:>9,.0f}/s", highlight=False)
            rates[name].append(round(rate, 1))
        latency = await measure_latency(yard, seconds=3 if quick else 15)
    return dict(rates), latency


async def _rates(yard: Yard, runs: int, part: int) -> AsyncIterator[tuple[str, float]]:
    for turn in range(runs):
        runners = [PEER, ONE, FOUR, HOT]
        for name in runners if turn % 2 == 0 else reversed(runners):
            rows, keys = (HOT_ROWS // part, 1) if name == HOT else (ROWS // part, KEYS)
            yield name, rows / await _seconds(yard, name, rows, keys)


async def _seconds(yard: Yard, name: str, rows: int, keys: int) -> float:
    if name == PEER:
        await yard.fill(rows, keys)
        return await yard.peer()
    async with yard.relays(RELAYS[name]):
        await yard.fill(rows, keys)
        return await yard.drained()


def gates(rates: dict[str, list[float]], latency: Latency) -> list[Gate]:
    """Return what has to be reached, with what was found."""
    rate = {name: median(found) for name, found in rates.items()}
    return [
        Gate("rate", "one relay ≥ 0.6 of aiokafka's producer", 0.6, rate[ONE] / rate[PEER]),
        Gate("rate", "four relays ≥ 0.9 of one", 0.9, rate[FOUR] / rate[ONE]),
        Gate("500/s", "p50 ≤ 20 ms to the handler", 20.0, latency.p50, most=True),
        Gate("500/s", "p99 ≤ 100 ms to the handler", 100.0, latency.p99, most=True),
    ]


def table(rates: dict[str, list[float]], latency: Latency) -> Table:
    """Return the figures as a table."""
    made = Table("what", "events of 1 KB a second", "runs", title="relay", title_justify="left")
    words: Callable[[float], str] = "{:,.0f}".format
    for name, found in rates.items():
        made.add_row(name, words(median(found)), ", ".join(map(words, found)))
    made.add_row("commit to handler, 500/s", f"p50 {latency.p50:.1f} ms, p99 {latency.p99:.1f} ms", str(latency.events))
    return made
