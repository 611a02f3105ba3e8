"""`eventing outbox`: see what waits, and send or skip what the broker refused."""

import asyncio
import json
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Annotated, Any

import asyncpg
import typer
from rich.console import Console
from rich.table import Table

from eventing import logs, schema
from eventing import repair as repairs
from eventing.database import Database
from eventing.errors import EventingError, Misconfigured
from eventing.letter_text import visible
from eventing.outbox_row import Key
from eventing.producer import Producer
from eventing.repair import Wanted
from eventing.settings import settings
from eventing.sql import load

app = typer.Typer(help=__doc__, no_args_is_help=True)

Aggregate = Annotated[str | None, typer.Option(help="Only this aggregate type")]
Key_ = Annotated[str | None, typer.Option("--key", help="Only this key (aggregate id)")]
Topic = Annotated[str | None, typer.Option(help="Only keys whose first event goes to this topic")]
Why = Annotated[str, typer.Option(help="The reason, for the audit")]
Json = Annotated[bool, typer.Option("--json", help="JSON for programs")]
SHOWN = 50  # keys of a table, unless --limit says otherwise
STILL_BLOCKED = 1  # the exit code of a repair that left a key blocked


@app.callback()
def _quiet() -> None:
    logs.quiet_client()


@app.command()
def status(*, as_json: Json = False) -> None:
    """Say what waits, who works on it, and what is in the way."""
    found = asyncio.run(_status())
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, value in found.items():
        typer.echo(f"{name.replace('_', ' ')}: {value:.1f} s" if isinstance(value, float) else f"{name}: {value}")


@app.command("list")
def list_(
    *,
    aggregate: Aggregate = None,
    key: Key_ = None,
    topic: Topic = None,
    limit: Annotated[int | None, typer.Option(help="Keys at most", min=1)] = None,
    as_lines: Annotated[bool, typer.Option("--json", help="One JSON object per line; no limit by default")] = False,
) -> None:
    """List blocked keys: the event that was refused, why, and how many wait behind it."""
    most = limit if as_lines else (limit or SHOWN) + 1
    found = asyncio.run(_blocked(Wanted(aggregate, key, topic), most))
    if as_lines:
        for row in found:
            typer.echo(json.dumps(dict(row), default=str))
        return
    table = Table("aggregate", "key", "event", "topic", "bytes", "waiting", "since", "why")
    for row in found[: limit or SHOWN]:
        names = ("aggregatetype", "aggregateid", "id", "topic", "bytes", "waiting", "since", "reason")
        table.add_row(*(visible(str(row[name])) for name in names))
    Console().print(table)
    if len(found) > (limit or SHOWN):
        typer.echo(f"more than {limit or SHOWN} are blocked; --limit shows more, --json all")


@app.command()
def repair(
    *,
    why: Why,
    aggregate: Aggregate = None,
    key: Key_ = None,
    topic: Topic = None,
    everything: Annotated[bool, typer.Option("--all", help="Without a filter: every blocked key")] = False,
) -> None:
    """Send what is behind blocked keys, in order, and unblock them; remove the cause first."""
    wanted = Wanted(aggregate, key, topic)
    if wanted == Wanted() and not everything:
        raise Misconfigured("no filter was given, and that means every blocked key; say --all if that is meant")
    found = asyncio.run(_repair(wanted, why))
    free = [one for one in found if one.refused is None]
    typer.echo(f"repaired {len(free)} of {len(found)} keys, sent {sum(one.sent for one in found)} events")
    for one in found:
        if one.refused is not None:
            typer.echo(f"still blocked: {visible(one.key[1])}: {visible(one.refused)}")
    raise typer.Exit(STILL_BLOCKED if len(free) < len(found) else 0)


@app.command()
def skip(
    event_id: Annotated[str, typer.Argument(help="The event that is given up: the first one behind its key")],
    *,
    why: Why,
) -> None:
    """Give up the event that blocks its key; its body is kept in the audit, and consumers never see it."""
    row, free = asyncio.run(_skip(event_id, why))
    typer.echo(f"skipped {event_id}, version {row['aggregateversion']} of {visible(row['aggregateid'])}")
    if not free:
        typer.echo(f"{row['waiting'] - 1} wait behind it; `eventing outbox repair --key ...` sends them")


async def _with_database(use: Callable[[Database], Any]) -> Any:
    async with Database.of(settings()) as database:
        await schema.check(database)
        return await use(database)


async def _status() -> dict[str, Any]:
    statements = load("eventing", "outbox")["state"], load("eventing", "outbox_blocked")["relays"]

    async def ask(database: Database) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for statement in statements:
            found |= dict((await database.fetch(statement))[0])
        return found

    return dict(await _with_database(ask))


async def _blocked(wanted: Wanted, limit: int | None) -> list[asyncpg.Record]:
    return list(await _with_database(lambda database: repairs.blocked(database, wanted, limit)))


async def _repair(wanted: Wanted, why: str) -> list[repairs.Repaired]:
    async def work(database: Database) -> list[repairs.Repaired]:
        async with AsyncExitStack() as stack:
            producer = await stack.enter_async_context(Producer(settings()))
            keys = [(row["aggregatetype"], row["aggregateid"]) for row in await repairs.blocked(database, wanted)]
            return [await repairs.repair(database, producer, key, why) for key in keys]

    return list(await _with_database(work))


async def _skip(event_id: str, why: str) -> tuple[asyncpg.Record, bool]:
    async def work(database: Database) -> tuple[asyncpg.Record, bool]:
        for row in await repairs.blocked(database, Wanted(event_id=_uuid(event_id)), 1):
            key: Key = row["aggregatetype"], row["aggregateid"]
            return row, await repairs.skip(database, key, event_id, why)
        raise EventingError(f"no blocked key has {event_id} in front; `eventing outbox list` names those that are")

    found: tuple[asyncpg.Record, bool] = await _with_database(work)
    return found


def _uuid(event_id: str) -> uuid.UUID:
    try:
        return uuid.UUID(event_id)
    except ValueError:
        raise EventingError(f"{visible(event_id)} is no event id; `eventing outbox list` names them") from None
