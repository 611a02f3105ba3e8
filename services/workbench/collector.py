"""OpenTelemetry's collector, built once from the Go modules that `observability/collector/build` names.

Run as a script it builds it: a minute or several, and only with a Go toolchain.
"""

import asyncio
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from workbench.cache import cache_directory
from workbench.home import Home
from workbench.ports import LOOPBACK, free_port
from workbench.process import Process

VERSION = "0.155.0"
HERE = Path(__file__).parents[2] / "observability" / "collector"
HINT = "`uv run python -m workbench.collector` builds it, once; it needs Go"


def find() -> Path | None:
    """Return the binary, None when it has not been built."""
    binary = cache_directory() / f"otelcol-{VERSION}" / "otelcol"
    return binary if binary.exists() else None


def build() -> Path:
    """Build the binary into the cache.

    Raises:
        FileNotFoundError: there is no Go toolchain.
        subprocess.CalledProcessError: it does not build; Go has said why.
    """
    target = cache_directory() / f"otelcol-{VERSION}" / "otelcol"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as fresh:
        made = Path(fresh) / "otelcol"
        subprocess.run(
            ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", made, "."], cwd=HERE / "build", check=True
        )
        made.rename(target)
    return target


class Collector:
    """A collector that runs; `endpoint` is for OTEL_EXPORTER_OTLP_ENDPOINT."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.endpoint = f"http://{LOOPBACK}:{port}"

    @classmethod
    async def start(
        cls, home: Home, binary: Path, *, config: str, out: str, environment: dict[str, str] | None = None
    ) -> "Collector":
        """Start it and wait until it listens.

        Args:
            home: the run it belongs to.
            binary: what `find` has found.
            config: laptop or cluster.
            out: the OTLP endpoint it sends to.
            environment: what its configuration reads besides.
        """
        port = free_port()
        known = {"OTLP_PORT": str(port), "OTLP_OUT": out} | (environment or {})
        process = await home.spawn("collector", [binary, "--config", HERE / f"{config}.yaml"], env=known)
        async with asyncio.timeout(20):
            while not await _listens(port):
                if process.returncode is not None:
                    raise RuntimeError(f"the collector ended:\n{process.tail(10)}")
                await asyncio.sleep(0.05)
        return cls(process, port)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True


if __name__ == "__main__":
    if shutil.which("go") is None:
        sys.exit("go is not there; install a Go toolchain, then run this again")
    print(build())
