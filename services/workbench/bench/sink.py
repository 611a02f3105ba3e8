"""Takes spans and forgets them: a collector is another machine, so reading them must not cost ours."""

import asyncio
from contextlib import suppress

from workbench.ports import LOOPBACK

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"


class Sink:
    """An OTLP/HTTP endpoint that answers 200 to whatever is posted; `endpoint` is its address."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        self.endpoint = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"

    @classmethod
    async def start(cls) -> "Sink":
        """Listen on a free port."""
        return cls(await asyncio.start_server(_serve, LOOPBACK, 0))

    async def stop(self) -> None:
        """Stop listening and cut what is open."""
        self._server.close()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
            writer.write(_ANSWER)
    writer.close()
