"""The parts a service needs, all of them, on this machine."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from workbench import ending
from workbench.broker import Broker
from workbench.home import Home
from workbench.mailbox import Mailbox
from workbench.postgres import Postgres
from workbench.spans import SpanReceiver
from workbench.valkey import Valkey


@dataclass(frozen=True)
class Stack:
    """Kafka, PostgreSQL, Valkey, a mail catcher and a span receiver, all running."""

    broker: Broker
    postgres: Postgres
    valkey: Valkey
    mailbox: Mailbox
    spans: SpanReceiver

    @classmethod
    async def start(cls, home: Home, progress: Callable[[str], None] = print) -> "Stack":
        """Start every part at the same time and wait until all answer; they stop with the home.

        Raises:
            ExceptionGroup: Of NotReadyError, for the parts that did not start.
        """
        async with asyncio.TaskGroup() as starting:
            broker = starting.create_task(Broker.start(home, progress=progress))
            postgres = starting.create_task(Postgres.start(home))
            valkey = starting.create_task(Valkey.start(home))
        mailbox, spans = await Mailbox.start(), await SpanReceiver.start()
        home.on_close(mailbox.stop)
        home.on_close(spans.stop)
        return cls(broker.result(), postgres.result(), valkey.result(), mailbox, spans)

    def addresses(self) -> dict[str, str]:
        """Return where each part is reached."""
        return {
            "Kafka": self.broker.bootstrap,
            "PostgreSQL": self.postgres.url(),
            "Valkey": self.valkey.url,
            "SMTP": f"127.0.0.1:{self.mailbox.port}",
            "OTLP/HTTP": self.spans.endpoint,
        }


async def run(console: Console) -> None:
    """Start the stack, print its addresses, and keep it until cancelled."""
    started = time.monotonic()
    async with Home.open() as home:
        stack = await Stack.start(home, console.print)
        console.print(_table(stack), f"ready in {time.monotonic() - started:.1f} s; logs in {home.path}")
        console.print("Ctrl-C stops it.")
        await asyncio.Event().wait()


def _table(stack: Stack) -> Table:
    table = Table("part", "address")
    for part, address in stack.addresses().items():
        table.add_row(part, address)
    return table


def main() -> None:
    """Run the stack until Ctrl-C."""
    console = Console()
    try:
        ending.run(run(console))
    except KeyboardInterrupt:
        console.print("stopped")
