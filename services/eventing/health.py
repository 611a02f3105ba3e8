"""Probes and metrics of a process: `/livez`, `/readyz`, `/metrics`.

Live means: not stuck; a dependency that is down never fails it, since a restart would not help. Ready means: this
process can do its work now; it says what is wrong when it cannot.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import uvicorn
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from eventing.malformed import MAX_HEAD, Protocol
from eventing.settings import Settings

CHECK_WITHIN = 2.0  # seconds before a check that does not answer counts as failed


class Health:
    """What a process knows of itself."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._checks: dict[str, tuple[Callable[[], Awaitable[None]], bool]] = {}
        self._alive: list[Callable[[], str | None]] = []

    def add(self, name: str, check: Callable[[], Awaitable[None]], *, required: bool = True) -> None:
        """Add a readiness check: it raises when something is wrong. One that is not required is only shown."""
        self._checks[name] = (check, required)

    def watch(self, alive: Callable[[], str | None]) -> None:
        """Add a liveness check: it returns why the process should be restarted, or None."""
        self._alive.append(alive)

    async def ready(self) -> tuple[bool, dict[str, str]]:
        """Return whether this process is ready, and what each check says."""
        names = list(self._checks)
        said = dict(zip(names, await asyncio.gather(*(self._ask(name) for name in names)), strict=True))
        failed = [name for name in names if said[name] != "ok" and self._checks[name][1]]
        if self.stopping.is_set():
            said["process"] = "stopping"
        return not failed and not self.stopping.is_set(), said

    async def _ask(self, name: str) -> str:
        try:
            async with asyncio.timeout(CHECK_WITHIN):
                await self._checks[name][0]()
        except TimeoutError:
            return f"no answer within {CHECK_WITHIN:g} s"
        except Exception as error:  # a probe reports, it does not fail
            return f"{error or type(error).__name__}"
        return "ok"

    def routes(self) -> list[Route]:
        """Return the three routes."""
        return [
            Route("/livez", self._livez, include_in_schema=False),
            Route("/readyz", self._readyz, include_in_schema=False),
            Route("/metrics", metrics, include_in_schema=False),
        ]

    async def _livez(self, _: Request) -> Response:
        reasons = [reason for alive in self._alive if (reason := alive())]
        return JSONResponse({"live": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def _readyz(self, _: Request) -> Response:
        ready, checks = await self.ready()
        return JSONResponse({"ready": ready, "checks": checks}, 200 if ready else 503)


async def metrics(request: Request) -> Response:
    """Serve the metrics; with exemplars when the scraper asks for OpenMetrics."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(REGISTRY), media_type=content_type)


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        return nullcontext()  # signals belong to the process, not to its HTTP server


@asynccontextmanager
async def serving(app: Any, settings: Settings) -> AsyncIterator[int]:
    """Serve an ASGI application while the block runs; yields the port. Open requests may finish.

    Raises:
        SystemExit: the port is taken.
    """
    config = uvicorn.Config(
        app,
        http=Protocol,
        h11_max_incomplete_event_size=MAX_HEAD,
        host=settings.http_host,
        port=settings.http_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=int(settings.shutdown_timeout * 0.6) or 1,
        timeout_keep_alive=30,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


def probes(health: Health) -> Starlette:
    """Return the application of a process that serves nothing else."""
    return Starlette(routes=health.routes())
