"""Jars from Maven, downloaded once: Kafka's, and those of a peer in the benchmarks.

Run as a script it downloads them into a directory. It runs as a child, not as a thread: a thread in a
download cannot be ended, and Ctrl-C would wait for it.
"""

import asyncio
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workbench.cache import cached
from workbench.deadline import NotReadyError
from workbench.home import Home
from workbench.process import Process

KAFKA = "4.3.1"

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Jars:
    """A class path: Maven coordinates joined by `+`, under a name that has their versions, and their size."""

    name: str
    coordinates: str
    megabytes: int

    async def get(self, home: Home, progress: Callable[[str], None]) -> list[Path]:
        """Return the jars, downloaded when this machine has not used them before.

        Args:
            home: The run.
            progress: Gets a line every two seconds of a download.

        Raises:
            NotReadyError: The download failed; the message has the reason.
        """

        async def make(directory: Path) -> None:
            await self._download(home, directory, progress)

        return sorted((await cached(home, f"{self.name}-jars", make)).glob("*.jar"))

    async def _download(self, home: Home, directory: Path, progress: Callable[[str], None]) -> None:
        # A repository of our own: jgo writes jars in place, and half a jar must not stay in the user's ~/.m2.
        repository = home.directory("maven")
        child = await home.spawn(
            "jars",
            [sys.executable, "-m", "workbench.jars", directory, self.coordinates],
            env={"M2_REPO": str(repository)},
        )
        ended = asyncio.ensure_future(child.wait())
        started = time.monotonic()
        while not ended.done():
            await asyncio.wait([ended], timeout=2)
            elapsed = time.monotonic() - started
            progress(
                f"downloading {self.name}, once: {_size(repository):.1f} of {self.megabytes} MB after {elapsed:.0f} s"
            )
        self._check(child)
        shutil.rmtree(repository)

    def _check(self, child: Process) -> None:
        if child.returncode:
            raise NotReadyError(
                f"the jars of {self.name} could not be downloaded; is the network there?\n{child.tail(5)}"
            )


# Kafka logs through slf4j and brings no backend: without this one it dies without a word.
KAFKA_JARS = Jars(f"kafka-{KAFKA}", f"org.apache.kafka:kafka_2.13:{KAFKA}+org.slf4j:slf4j-simple:1.7.36", 47)


def _size(directory: Path) -> float:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / _MEGABYTE


def main() -> None:
    """Download into the directory named by the first argument the jars named by the second."""
    import jgo  # noqa: PLC0415 - 0.5 s that only a download should pay

    target = Path(sys.argv[1])
    for artifact in jgo.resolve(sys.argv[2]):
        jar = artifact.resolve()
        with zipfile.ZipFile(jar) as archive:  # jgo only warns of a damaged one
            if damaged := archive.testzip():
                sys.exit(f"{jar.name} arrived damaged: {damaged}")
        shutil.copy(jar, target)


if __name__ == "__main__":
    main()
