"""Where the runners run: a broker and a database, and each run from its job to its figures."""

import json
from dataclasses import dataclass, field
from functools import partial

from eventing.dead_letter import redrive_topic_of, topic_of
from workbench.bench.figure import Run
from workbench.bench.job import Job
from workbench.bench.load import fill
from workbench.bench.runners import argv, environment
from workbench.bench.shapes import BARE, CONCURRENCY, OURS, PARALLEL, TRACED, Shape
from workbench.bench.sink import Sink
from workbench.bench.store import Store
from workbench.bench.watch import done, peak_mib, ready, wrote
from workbench.broker import Broker
from workbench.home import Home
from workbench.ports import free_port
from workbench.topics import ensure_topics


@dataclass
class Field:
    """The parts of a benchmark, running.

    `store` is None when no shape needs a database; `java` starts Parallel Consumer and is None without a JDK.
    """

    home: Home
    broker: Broker
    sink: Sink
    store: Store | None
    java: tuple[str, ...] | None
    _filled: set[str] = field(default_factory=set)
    _turn: int = 0

    def can(self, runner: str) -> bool:
        """Tell whether a runner can take part here."""
        return runner != PARALLEL or self.java is not None

    async def run(self, shape: Shape, runner: str) -> Run:
        """Let a runner do the work of a shape, on a topic of its size and in a group that is new.

        Raises:
            RunFailedError: with the last words of the runner.
        """
        self._turn += 1
        job, port = self._job(shape, runner), free_port()
        await self._prepare(shape, runner, job)
        command = self.java if runner == PARALLEL and self.java else argv(runner, shape)
        known = environment(runner, job, port=port, otlp=self.sink.endpoint)
        process = await self.home.spawn(f"{self._turn}-{shape.name}-{runner}", command, env=known)
        idle = not shape.records[runner]
        try:
            await done(process, partial(ready, port) if idle else partial(wrote, job.result))
            rss = peak_mib(process.pid)
        finally:
            await process.stop(grace=20)
        return Run(shape.name, runner, 0, 0.0, 0, 0, rss) if idle else _run(shape.name, runner, job, rss)

    def _job(self, shape: Shape, runner: str) -> Job:
        records = shape.records[runner]
        return Job(
            bootstrap=self.broker.bootstrap,
            topic=f"{shape.name}-{records}",
            group=f"bench-{self._turn}",
            records=max(1, records),
            keys=shape.keys,
            pause=shape.pause,
            result=self.home.path / f"{self._turn}.json",
            concurrency=CONCURRENCY,
            connections=max(1, shape.connections),
            database=self.store.url if shape.connections and self.store else "",
        )

    async def _prepare(self, shape: Shape, runner: str, job: Job) -> None:
        bootstrap, partitions = self.broker.bootstrap, shape.partitions
        if job.database and self.store:
            await self.store.empty()
        if runner != BARE and job.topic not in self._filled:
            await fill(bootstrap, job.topic, records=shape.records[runner], keys=shape.keys, partitions=partitions)
            self._filled.add(job.topic)
        if runner in (OURS, TRACED):  # as the operator would: a group's own topics are there before it is
            own = (topic_of(job.topic, job.group), redrive_topic_of(job.topic, job.group))
            await ensure_topics(bootstrap, dict.fromkeys(own, partitions))


def _run(name: str, runner: str, job: Job, rss: float) -> Run:
    found = json.loads(job.result.read_text())
    return Run(
        shape=name,
        runner=runner,
        records=job.records,
        rate=job.records / found["seconds"],
        order_violations=found["order_violations"],
        duplicates=found["duplicates"],
        rss_mib=rss,
        cpu_us=found["cpu_seconds"] / job.records * 1e6,
    )
