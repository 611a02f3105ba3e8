"""`eventing dlq`: see dead letters and send them back, with nothing but a broker."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from eventing import logs, tracing
from eventing.database import Database
from eventing.dead_letter_queue import DeadLetterQueue
from eventing.discard import discard as give_up
from eventing.errors import EventingError, Misconfigured
from eventing.fence import PostgresFence
from eventing.letter import DeadLetter
from eventing.letter_filter import Filter
from eventing.letter_options import filtered
from eventing.letter_text import as_object, body_of, row_of, visible
from eventing.producer import Producer
from eventing.redrive import MAX_RATE, Redrive, Redriven, plan
from eventing.selection import MAX_REDRIVES, TOO_OFTEN, Selection
from eventing.settings import settings

app = typer.Typer(help=__doc__, no_args_is_help=True)

Topic = Annotated[str, typer.Argument(help="Dead-letter topic: <topic>.<group>.dlq")]
Limit = Annotated[int | None, typer.Option(help="Letters at most", min=1)]
SHOWN = 50  # rows of a table, unless --limit says otherwise
INTERRUPTED = 130  # the exit code of a command that Ctrl-C has ended


@app.callback()
def _quiet() -> None:
    logs.quiet_client()


@app.command("list")
@filtered
def list_(
    topic: Topic,
    *,
    wanted: Filter,
    limit: Limit = None,
    as_lines: Annotated[bool, typer.Option("--json", help="One JSON object per line; no limit by default")] = False,
) -> None:
    """List what waits: which event, why, how often it was tried."""
    if as_lines:
        asyncio.run(_each(topic, wanted, lambda letter: print(json.dumps(as_object(letter))), limit))  # noqa: T201
        return
    table = Table("id", "type", "why", "error", "attempts", "redrives", "origin")
    most = limit or SHOWN
    rows: list[DeadLetter] = []
    asyncio.run(_each(topic, wanted, rows.append, most + 1))
    for letter in rows[:most]:
        table.add_row(*row_of(letter))
    Console().print(table)
    if len(rows) > most:
        typer.echo(f"more than {most} match; --limit shows more, --json all")


@app.command()
def show(topic: Topic, id_: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Show one dead letter: every header, and its body as text or hex."""
    found: list[DeadLetter] = []

    def newest(letter: DeadLetter) -> None:
        found[:] = [letter]

    asyncio.run(_each(topic, Filter(ids=(id_,)), newest, None))
    if not found:
        raise EventingError(f"{topic} has no dead letter {id_}; `eventing dlq list {topic}` shows those that wait")
    letter = found[0]
    for name, value in letter.known.items():
        typer.echo(f"{visible(name)}: {visible(value)}")
    typer.echo(f"key: {'none' if letter.key is None else visible(letter.key)}\n\n{body_of(letter)}")


@app.command()
@filtered
def redrive(
    topic: Topic,
    *,
    wanted: Filter,
    limit: Limit = None,
    rate: Annotated[float, typer.Option(help="Letters per second", min=0.01, max=MAX_RATE)] = 50.0,
    to: Annotated[str | None, typer.Option(help="The origin topic, spelled out: every group gets these again")] = None,
    whole_keys: Annotated[bool, typer.Option("--whole-keys", help="Take all letters of parked keys")] = False,
    force: Annotated[bool, typer.Option("--force", help=f"Also what came back {MAX_REDRIVES} times")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count")] = False,
) -> None:
    """Send dead letters back to the group that gave them up, and to nobody else."""
    if force:
        _warn(f"--force sends also what came back {MAX_REDRIVES} times; it may well come back again")
    if to is not None:
        _warn(f"every consumer group that reads {to} gets these letters again, not only the one that gave them up")
    asked = {"whole_keys": whole_keys, "force": force, "limit": limit, "to": to}
    if dry_run:
        chosen = asyncio.run(_plan(topic, wanted, asked))
        typer.echo(f"would redrive {len(chosen.chosen)} of {chosen.waiting} waiting letters, to {to or _back(topic)}")
        _tell(chosen)
        return
    _redrive(topic, wanted, asked, rate)


@app.command()
@filtered
def discard(
    topic: Topic,
    *,
    wanted: Filter,
    why: Annotated[str, typer.Option(help="The reason, for the log")],
    everything: Annotated[bool, typer.Option("--all", help="Without a filter: every letter that waits")] = False,
) -> None:
    """Give letters up for good; needs EVENTING_DATABASE_URL where keys are parked."""
    if wanted == Filter() and not everything:
        raise Misconfigured("no filter was given, and that means every letter; say --all if that is meant")
    typer.echo(f"discarded {asyncio.run(_discard(topic, wanted, why))}")


async def _discard(topic: str, wanted: Filter, why: str) -> int:
    async with AsyncExitStack() as stack:
        fence_of = None
        if settings().database_url:
            database = await stack.enter_async_context(Database.of(settings()))
            fence_of = partial(PostgresFence, database)
        queue = await stack.enter_async_context(DeadLetterQueue.open(topic, settings()))
        return await give_up(queue, wanted, why=why, fence_of=fence_of)


async def _each(topic: str, wanted: Filter, use: Callable[[DeadLetter], None], most: int | None) -> None:
    """Use each letter that matches as it is read; none is held."""
    used = 0
    async with DeadLetterQueue.open(topic, settings()) as queue, aclosing(queue.letters()) as letters:
        async for letter in letters:
            if wanted.matches(letter):
                use(letter)
                used += 1
                if used == most:
                    return


async def _plan(topic: str, wanted: Filter, asked: dict[str, Any]) -> Selection:
    async with DeadLetterQueue.open(topic, settings()) as queue:
        return await plan(queue, wanted, **asked)


def _redrive(topic: str, wanted: Filter, asked: dict[str, Any], rate: float) -> None:
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # which asyncio ends cleanly
    provider, done = tracing.configure(), Redriven()
    try:
        chosen = asyncio.run(_send(topic, wanted, asked, rate, done))
    except KeyboardInterrupt:
        _warn(f"interrupted: {_sent(done)}; run the same command again for the others")
        raise typer.Exit(INTERRUPTED) from None
    except EventingError:
        if done.sent:
            _warn(f"{_sent(done)} and will not be sent again; run the same command again for the others")
        raise
    finally:
        provider.shutdown()
    typer.echo(f"{_sent(done)}, not asked for {chosen.unmatched}, kept {chosen.kept.total()}")
    if done.expired:
        typer.echo(f"expired: {done.expired}, the topic's retention ended before they were sent")
    _tell(chosen)


async def _send(topic: str, wanted: Filter, asked: dict[str, Any], rate: float, done: Redriven) -> Selection:
    async with DeadLetterQueue.open(topic, settings()) as queue, Producer(settings()) as producer:
        redrive = Redrive(queue, producer, rate=rate, to=asked["to"], done=done)
        chosen = await plan(queue, wanted, **asked)
        await redrive.run(chosen, _progress(len(chosen.chosen)))
        return chosen


def _progress(total: int) -> Callable[[Redriven], None]:
    def tell(done: Redriven) -> None:
        if sys.stderr.isatty():
            typer.echo(f"\r{done.sent} of {total} sent", err=True, nl=done.sent == total)

    return tell


def _sent(done: Redriven) -> str:
    return f"redrive {done.id}: sent {done.sent}"


def _back(topic: str) -> str:
    return f"{topic.removesuffix('.dlq')}.redrive"


def _tell(chosen: Selection) -> None:
    """Say what a selection holds and what it leaves, and why."""
    for reason, count in sorted(chosen.reasons.items()):
        typer.echo(f"  {visible(reason)}: {count}")
    if chosen.keys:
        typer.echo(f"  parked keys: {len(chosen.keys)}, with {chosen.keys.total()} letters, each whole and in order")
    for why, count in sorted(chosen.kept.items()):
        typer.echo(f"kept: {count}, {why}{'; --force sends them' if why == TOO_OFTEN else ''}")
    if chosen.superseded:
        typer.echo(f"superseded: {chosen.superseded}, there is a newer letter of the same event")
    if chosen.over_limit:
        typer.echo(f"over the limit: {chosen.over_limit}; a parked key that does not fit is left whole")
    if chosen.unmatched:
        typer.echo(f"not asked for: {chosen.unmatched}")
    if chosen.waiting and not chosen.chosen:
        there = ", ".join(f"{visible(reason)} {count}" for reason, count in sorted(chosen.there.items()))
        typer.echo(f"nothing to send; what waits, by reason: {there}")


def _warn(text: str) -> None:
    typer.echo(f"warning: {text}", err=True)
