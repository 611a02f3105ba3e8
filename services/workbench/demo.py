"""`uv run demo`: the whole flow on real parts, shown and checked."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from workbench.output import writable

STOPPED = "stopped; nothing is left running"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the demo; exit code 1 when a check failed."""
    app()


def _leave(*_: object) -> None:
    """End the process where it is."""
    os.write(sys.stdout.fileno(), f"{STOPPED}\n".encode())
    os._exit(130)


@app.command()
def demo(
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", dir_okay=False, callback=writable, help="Write the same facts as JSON"),
    ] = None,
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave all running and print the addresses")] = False,
) -> None:
    """Start Kafka, PostgreSQL, Valkey, a mail catcher and every service, and follow events through them."""
    console = Console()
    # Until something runs, Ctrl-C leaves at once: an exception in the middle of an import may come out as another one.
    signal.signal(signal.SIGINT, _leave)
    console.print("starting Kafka, PostgreSQL and Valkey")
    try:
        # Loaded here: it takes a second, in which Ctrl-C may come too.
        from workbench import ending  # noqa: PLC0415
        from workbench.play import play  # noqa: PLC0415

        ok = ending.run(play(console, json_file, keep=keep))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is leaving already
        console.print(STOPPED)
        raise SystemExit(130) from None
    raise SystemExit(0 if ok else 1)


if __name__ == "__main__":
    main()
