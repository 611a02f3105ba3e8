"""Parallel Consumer, compiled here: its jars come from Maven once, its runner is one small class."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from workbench.deadline import NotReadyError
from workbench.home import Home
from workbench.jars import Jars

JARS = Jars(
    "parallel-consumer-0.5.3.3",
    "io.confluent.parallelconsumer:parallel-consumer-core:0.5.3.3"
    "+com.fasterxml.jackson.core:jackson-databind:2.20.0+org.slf4j:slf4j-simple:2.0.17",
    megabytes=23,
)
_SOURCE = Path(__file__).with_name("ParallelRunner.java")


def javac() -> Path | None:
    """Return the compiler of a JDK on this machine, None when there is none."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("javac", path=f"{home}/bin") if home else shutil.which("javac")
    return Path(found).resolve() if found else None


async def parallel_consumer(home: Home, compiler: Path, progress: Callable[[str], None]) -> tuple[str, ...]:
    """Compile the runner; return the program and its arguments.

    Raises:
        NotReadyError: the jars could not be had, or the compiler refused; the message has its words.
    """
    jars, classes = await JARS.get(home, progress), home.directory("java-classes")
    path = ":".join(map(str, jars))
    child = await home.spawn("javac", [compiler, "-cp", path, "-d", classes, _SOURCE])
    if await child.wait():
        raise NotReadyError(f"{_SOURCE.name} does not compile:\n{child.tail()}")
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return str(compiler.with_name("java")), quiet, "-cp", f"{path}:{classes}", _SOURCE.stem
