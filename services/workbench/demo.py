"""`uv run demo`: the whole flow on real parts, shown and checked."""

import asyncio
import importlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from workbench.home import Home
from workbench.interrupt import run_to_end
from workbench.stack import Stack
from workbench.tree import Node, draw, grow

if TYPE_CHECKING:
    from workbench.fleet import Fleet
    from workbench.scenes import Scenes

QUICK = {  # the demo's retries are seconds, not minutes
    "EVENTING_CONSUMER_ATTEMPTS": "3",
    "EVENTING_CONSUMER_BACKOFF_INITIAL": "0.2",
    "EVENTING_CONSUMER_BACKOFF_MAX": "1",
}
STEPS = (
    "POST /users",
    "create",
    "send user-events",
    "process user-events",
    "smtp send",
    "send user-events.mailer.dlq",
    "redrive",
)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the demo; exit code 1 when a check failed."""
    app()


@app.command()
def demo(
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the same facts as JSON")
    ] = None,
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave all running and print the addresses")] = False,
) -> None:
    """Start Kafka, PostgreSQL, Valkey, a mail catcher and every service, and follow events through them."""
    console = Console()
    ok = run_to_end(_run(console, json_file, keep=keep), console)
    raise SystemExit(0 if ok else 1)


async def _run(console: Console, json_file: Path | None, *, keep: bool) -> bool:
    started = time.monotonic()
    async with Home.open() as home:
        console.print("starting Kafka, PostgreSQL and Valkey")
        stack = await _start(home, console)
        from workbench.fleet import Fleet  # noqa: PLC0415
        from workbench.scenes import Scenes  # noqa: PLC0415

        console.print(f"starting six services [dim]{time.monotonic() - started:.1f} s[/dim]")
        fleet = await Fleet.prepare(home, stack, QUICK)
        await fleet.start()
        console.print(f"everything is ready [dim]{time.monotonic() - started:.1f} s[/dim]")
        scenes = Scenes(stack, fleet, console)
        await scenes.play()
        trace = await _trace(scenes, console)
        await scenes.count_dead_letters()
        seconds = round(time.monotonic() - started, 1)
        _close(scenes, console, seconds)
        if json_file is not None:
            _write(json_file, _facts(scenes, trace, seconds))
        if keep:
            await _keep(stack, fleet, console, str(home.path))
        await fleet.stop(*fleet.processes)
    return not scenes.checks.failed


async def _start(home: Home, console: Console) -> Stack:
    """Start the parts; loading the services' code takes as long, so do both at once."""
    async with asyncio.TaskGroup() as group:
        starting = group.create_task(Stack.start(home, console.print))
        group.create_task(asyncio.to_thread(importlib.import_module, "workbench.scenes"))
    return starting.result()


async def _trace(scenes: "Scenes", console: Console) -> Node | None:
    """Draw the poisoned event's way, once its last span has come."""
    console.print("\n[bold]9  the poisoned event, as its trace tells it[/bold]")
    redriven = "process user-events.mailer.redrive"
    await scenes.stack.spans.seen(lambda span: span.name == redriven)
    node = grow(scenes.stack.spans.spans, scenes.poisoned_event)
    if node is not None:
        console.print(draw(node))
    names = node.names() if node else []
    missing = [step for step in (*STEPS, redriven) if not any(name.startswith(step) for name in names)]
    scenes.checks.that(
        "one trace crosses HTTP, outbox, broker, retry, dead letter and redrive",
        not missing,
        f"{len(names)} spans" + (f", missing {missing}" if missing else ""),
    )
    return node


def _close(scenes: "Scenes", console: Console, seconds: float) -> None:
    made, failed = len(scenes.checks.made), len(scenes.checks.failed)
    colour = "red" if failed else "green"
    counts = f"{scenes.accepted} registrations accepted, {len(scenes.stack.mailbox.messages)} mails"
    fates = f"{scenes.dead_lettered} dead-lettered, {scenes.redriven} redriven, {seconds} s"
    console.print(f"\n[bold {colour}]{made - failed} of {made} checks hold[/bold {colour}]: {counts}, {fates}")


def _write(path: Path, facts: dict[str, Any]) -> None:
    path.write_text(json.dumps(facts, indent=2) + "\n")


def _facts(scenes: "Scenes", trace: Node | None, seconds: float) -> dict[str, Any]:
    return {
        "checks": scenes.checks.facts(),
        "accepted": scenes.accepted,
        "mails": len(scenes.stack.mailbox.messages),
        "dead_lettered": scenes.dead_lettered,
        "redriven": scenes.redriven,
        "trace": trace.facts() if trace else {},
        "seconds": seconds,
    }


async def _keep(stack: Stack, fleet: "Fleet", console: Console, logs: str) -> None:
    for name, address in (*stack.addresses().items(), *((name, fleet.url(name)) for name in fleet.processes)):
        console.print(f"  {name:<16} {address}", highlight=False)
    console.print(f"  logs             {logs}\nCtrl-C stops it.", highlight=False)
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
