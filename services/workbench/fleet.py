"""Every service of the template as a process of its own, on the local stack."""

import asyncio
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import httpx

from contracts.users import TOPIC
from eventing.dead_letter import redrive_topic_of, topic_of
from eventing.migrate import migrate
from workbench import deadline
from workbench.deadline import NotReadyError, listens
from workbench.home import Home
from workbench.ports import LOOPBACK, free_port
from workbench.process import Process
from workbench.stack import Stack
from workbench.topics import ensure_topics

READY_WITHIN = 60.0  # seconds for a service to become ready
PARTITIONS = 6
GROUPS = ("mailer", "analytics", "profile-cache")


@dataclass(frozen=True)
class Role:
    """One kind of process: the arguments of `eventing`, the database it uses, and settings of its own."""

    command: tuple[str, ...]
    database: str = ""
    settings: dict[str, str] = field(default_factory=dict)


ROLES = {
    "accounts-api": Role(("serve", "accounts.api"), "accounts"),
    "accounts-relay": Role(("relay",), "accounts"),
    "mailer": Role(("consume", "mailer.handlers"), "mailer"),
    "analytics": Role(("consume", "analytics.handlers"), "analytics"),
    "analytics-api": Role(("serve", "analytics.api"), "analytics"),
    "profile-cache": Role(("consume", "profile_cache.handlers")),
}


class Fleet:
    """The services of one run. A second instance of a role is called `mailer@2`, and so on."""

    def __init__(self, home: Home, stack: Stack, settings: Mapping[str, str]) -> None:
        self._home = home
        self._stack = stack
        self._settings = dict(settings)
        self._ports: dict[str, int] = {}
        self._ran: list[Process] = []
        self.processes: dict[str, Process] = {}

    @classmethod
    async def prepare(cls, home: Home, stack: Stack, settings: Mapping[str, str] | None = None) -> "Fleet":
        """Create topics, databases and tables; no service runs yet.

        Args:
            home: where processes live.
            stack: the parts they use.
            settings: environment variables for every service.
        """
        fleet = cls(home, stack, settings or {})
        names = [TOPIC, *(name(TOPIC, group) for group in GROUPS for name in (topic_of, redrive_topic_of))]
        async with asyncio.TaskGroup() as making:
            making.create_task(ensure_topics(stack.broker.bootstrap, dict.fromkeys(names, PARTITIONS)))
            for database in sorted({role.database for role in ROLES.values() if role.database}):
                making.create_task(fleet._tables(database))
        return fleet

    async def _tables(self, database: str) -> None:
        await self._stack.postgres.create_database(database)
        await migrate(self._stack.postgres.url(database), database)

    async def start(self, names: Iterable[str] = ROLES, *, ready: bool = True) -> None:
        """Start services, by default all, and wait until they are ready.

        Raises:
            NotReadyError: one ended or did not become ready; its last words are in the message.
        """
        names = list(names)
        for name in names:
            self.processes[name] = await self._spawn(name)
        if ready:
            await asyncio.gather(*(self.ready(name) for name in names))

    async def _spawn(self, name: str) -> Process:
        role = ROLES[name.partition("@")[0]]
        self._ports.setdefault(name, free_port())
        argv = [sys.executable, "-m", "eventing.cli", *role.command]
        return await self._home.spawn(name, argv, env=self._environment(name, role))

    def _environment(self, name: str, role: Role) -> dict[str, str]:
        stack = self._stack
        return {
            "EVENTING_SERVICE": name.partition("@")[0],
            "EVENTING_KAFKA_BOOTSTRAP": stack.broker.bootstrap,
            "EVENTING_CACHE_URL": stack.valkey.url,
            "EVENTING_HTTP_PORT": str(self._ports.get(name, 0)),
            "EVENTING_LOG_FORMAT": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": stack.spans.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "500",
            **({"EVENTING_DATABASE_URL": stack.postgres.url(role.database)} if role.database else {}),
            **(
                {"MAILER_SMTP_HOST": "127.0.0.1", "MAILER_SMTP_PORT": str(stack.mailbox.port)}
                if role.database == "mailer"
                else {}
            ),
            **role.settings,
            **{key: value for key, value in self._settings.items() if _meant_for(key, role)},
        }

    async def stop(self, *names: str) -> None:
        """Stop services in order: SIGTERM, drain, exit."""
        await asyncio.gather(*(self.processes[name].stop() for name in names))

    async def kill(self, *names: str) -> None:
        """End services at once: SIGKILL."""
        await asyncio.gather(*(self.processes[name].kill() for name in names))

    async def run(self, argv: list[str]) -> str:
        """Run a command to its end with the stack's settings; returns what it said.

        Raises:
            RuntimeError: it failed; its output is in the message.
        """
        process = await self._home.spawn(f"command-{len(self._ran)}", argv, env=self._environment("command", Role(())))
        self._ran.append(process)
        if await process.wait():
            raise RuntimeError(f"{' '.join(argv[1:])} failed:\n{process.tail(40)}")
        return process.tail(10_000)

    def url(self, name: str) -> str:
        """Return the base URL of a service's HTTP port: its API, or its probes and metrics."""
        return f"http://127.0.0.1:{self._ports[name]}"

    async def ready(self, name: str) -> None:
        """Wait until a service says that it is ready.

        Raises:
            NotReadyError: it ended, or is not ready within the limit.
        """
        process, until = self.processes[name], time.monotonic() + READY_WITHIN
        # A service imports for a second: asking the port costs a tenth of what an HTTP client does.
        await deadline.ready(process, partial(listens, LOOPBACK, self._ports[name]), seconds=READY_WITHIN)
        said = "nothing"
        async with httpx.AsyncClient(base_url=self.url(name), timeout=5) as http:
            while time.monotonic() < until:
                if process.returncode is not None:
                    raise NotReadyError(f"{name} ended:\n{process.tail(20)}")
                try:
                    answer = await http.get("/readyz")
                except httpx.TransportError as error:
                    said = str(error)
                else:
                    if answer.status_code == 200:
                        return
                    said = answer.text
                await asyncio.sleep(0.05)
        raise NotReadyError(f"{name} is not ready after {READY_WITHIN:g} s; it says {said}\n{process.tail(20)}")


def _meant_for(key: str, role: Role) -> bool:
    return not key.startswith("MAILER_") or role.database == "mailer"
