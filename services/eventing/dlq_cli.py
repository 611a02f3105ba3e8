"""`eventing dlq`: see dead letters and send them back, with nothing but a broker."""

import asyncio
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from eventing import headers, tracing
from eventing.errors import EventingError
from eventing.producer import Producer
from eventing.redrive import DeadLetter, DeadLetterQueue, Redriven
from eventing.settings import settings

app = typer.Typer(help=__doc__, no_args_is_help=True)

Topic = Annotated[str, typer.Argument(help="Dead-letter topic: <topic>.<group>.dlq")]
Ids = Annotated[list[str] | None, typer.Option("--id", help="Only this dead letter; may be repeated")]


@app.command("list")
def list_(topic: Topic, limit: Annotated[int, typer.Option(help="Letters shown at most", min=1)] = 50) -> None:
    """List what waits: which event, why, how often it was tried."""
    table = Table("id", "type", "why", "error", "attempts", "redrives", "origin")
    for letter in asyncio.run(_letters(topic))[:limit]:
        known = letter.known
        origin = "/".join(
            known.get(n, "?") for n in (headers.ORIGIN_TOPIC, headers.ORIGIN_PARTITION, headers.ORIGIN_OFFSET)
        )
        error = f"{known.get(headers.ERROR_TYPE)}: {known.get(headers.ERROR_MESSAGE)}"
        why, attempts = known.get(headers.DISPOSITION), known.get(headers.ATTEMPT)
        table.add_row(letter.id, known.get(headers.TYPE, "-"), why, error, attempts, str(letter.redrives), origin)
    Console().print(table)


@app.command()
def show(topic: Topic, id_: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Show one dead letter: every header, and the bytes of its body."""
    found = [letter for letter in asyncio.run(_letters(topic)) if letter.id == id_]
    if not found:
        raise EventingError(f"{topic} has no dead letter {id_}; `eventing dlq list {topic}` shows those that wait")
    for name, value in found[0].known.items():
        typer.echo(f"{name}: {value}")
    typer.echo(f"key: {found[0].record.key!r}\n\n{found[0].record.value!r}")


@app.command()
def redrive(
    topic: Topic,
    ids: Ids = None,
    rate: Annotated[float, typer.Option(help="Letters per second", min=0.01, max=10_000)] = 50.0,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count")] = False,
) -> None:
    """Send dead letters back to the group that gave them up, and to nobody else."""

    def wanted(letter: DeadLetter) -> bool:
        return not ids or letter.id in ids

    if dry_run:
        typer.echo(f"would redrive {sum(map(wanted, asyncio.run(_letters(topic))))}")
        return
    provider = tracing.configure()
    try:
        done = asyncio.run(_redrive(topic, wanted, rate))
    finally:
        provider.shutdown()
    typer.echo(f"redrive {done.id}: sent {done.sent}, not asked for {done.unmatched}, kept {done.kept}")
    if done.kept:
        typer.echo("kept are letters that came back too often, and pointers: too large for a letter, they have no body")


async def _letters(topic: str) -> list[DeadLetter]:
    async with DeadLetterQueue.open(topic, settings()) as queue:
        return [letter async for letter in queue.letters()]


async def _redrive(topic: str, wanted: Callable[[DeadLetter], bool], rate: float) -> Redriven:
    async with Producer(settings()) as producer, DeadLetterQueue.open(topic, settings()) as queue:
        return await queue.redrive(producer, wanted=wanted, rate=rate)
