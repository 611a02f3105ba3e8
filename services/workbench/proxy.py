"""A TCP proxy in front of a part, which can be cut, stalled and healed: the network of one client, in trouble."""

import asyncio
from contextlib import suppress

from workbench.ports import LOOPBACK, free_port

_CHUNK = 64 * 1024  # bytes read at once; all that a stalled direction holds back


class Proxy:
    """Forwards connections to a port of this machine, inside this event loop.

    A client of Kafka follows the addresses which the broker advertises, so a proxy alone is passed by:
    `Broker.start(proxies=...)` gives each proxy a listener of its own that advertises the proxy.

    Attributes:
        address: Where clients connect, `127.0.0.1:PORT`.
        target: Port it forwards to.
    """

    def __init__(self, port: int, target: int) -> None:
        self.address = f"{LOOPBACK}:{port}"
        self.target = target
        self._port = port
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._connections: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(cls, target: int | None = None) -> "Proxy":
        """Listen on a free port, and forward to `target`; to a free port, for somebody to take, when None."""
        proxy = cls(free_port(), target or free_port())
        await proxy.heal()
        return proxy

    async def cut(self) -> None:
        """Drop every connection and refuse new ones, as a host does that has gone."""
        server, self._server = self._server, None
        if server:
            server.close()
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        self._flows.set()

    def stall(self) -> None:
        """Keep connections and accept new ones, but pass no byte either way, as a network does that loses packets."""
        self._flows.clear()

    async def heal(self) -> None:
        """Let everything through again: what was held back first."""
        self._flows.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, LOOPBACK, self._port)

    stop = cut

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._connections.add(task)
        try:
            await self._flows.wait()
            await self._forward(reader, writer)
        except asyncio.CancelledError:  # cut: the streams' own task has nobody to tell
            return
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(LOOPBACK, self.target)
        except OSError:
            return  # the part is down: the client sees its connection close
        try:
            ways = [asyncio.create_task(self._pump(*way)) for way in ((reader, back), (there, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.wait(ways)
        finally:
            back.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                await self._flows.wait()
                writer.write(chunk)
                await writer.drain()
