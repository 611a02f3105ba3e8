"""`eventing`: what the containers run and what an engineer types."""

import asyncio
import importlib
import os
import sys
from functools import partial
from typing import Annotated, Any

import typer

from eventing import dlq_cli, outbox_cli, process, trail_cli
from eventing.consumer import Consumer
from eventing.errors import EventingError, Misconfigured
from eventing.settings import settings

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(dlq_cli.app, name="dlq")
app.add_typer(outbox_cli.app, name="outbox")
app.command()(trail_cli.trace)
app.command()(trail_cli.why)

Module = Annotated[str, typer.Argument(help="Python module, e.g. mailer.handlers")]


def main() -> None:
    """Run a command; an error we know is one line on stderr and exit code 2."""
    try:
        app()
    except EventingError as error:
        print(f"eventing: {error}", file=sys.stderr)  # noqa: T201  # for the person who typed the command
        raise SystemExit(2) from None


@app.command()
def relay() -> None:
    """Send the events of the outbox to Kafka."""
    raise SystemExit(process.run(process.relay))


@app.command()
def consume(module: Module) -> None:
    """Run the handlers of a module's `consumer`."""
    _name(module)
    consumer = _load(module, "consumer")
    if not isinstance(consumer, Consumer):
        raise Misconfigured(f"{module}.consumer is no eventing.Consumer")
    raise SystemExit(process.run(partial(process.consume, consumer)))


@app.command()
def serve(module: Module) -> None:
    """Serve a module's `app` over HTTP."""
    _name(module)
    raise SystemExit(process.run(partial(process.serve, _load(module, "app"))))


@app.command()
def migrate(service: Annotated[str, typer.Argument(help="Package with a migrations folder")] = "") -> None:
    """Create or upgrade the tables in EVENTING_DATABASE_URL: the library's, then the service's."""
    from eventing.migrate import migrate as upgrade  # noqa: PLC0415  # Alembic takes 0.3 s that no other command needs

    asyncio.run(upgrade(settings().database_url, service or None))


def _name(module: str) -> None:
    """Name the process after its package unless it has a name: `accounts.api` → accounts."""
    os.environ.setdefault("EVENTING_SERVICE", module.split(".", maxsplit=1)[0])


def _load(module: str, name: str) -> Any:
    sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise Misconfigured(f"{error}; name a module that can be imported, e.g. mailer.handlers") from None
    except AttributeError:
        raise Misconfigured(f"module {module} has no {name!r}") from None


if __name__ == "__main__":
    main()
