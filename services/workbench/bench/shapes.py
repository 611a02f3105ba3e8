"""The shapes of work that are measured, and how many records each runner gets to work a few seconds."""

from collections.abc import Collection
from dataclasses import dataclass, replace

OURS = "evenkeel"
TRACED = "evenkeel-traced"
ACK = "faststream-ack"
ACK_FIRST = "faststream-ack-first"
SERIAL = "aiokafka-serial"
CEILING = "aiokafka-ceiling"
PARALLEL = "parallel-consumer"
BARE = "asyncpg-bare"
RUNNERS = (OURS, TRACED, ACK, ACK_FIRST, SERIAL, CEILING, PARALLEL, BARE)

CONCURRENCY = 100  # handlers under way at once, of every runner that knows more than one


@dataclass(frozen=True)
class Shape:
    """One kind of work.

    `pause` are the seconds a handler takes, at least and at most. `records` names the runners that take part, in
    their order, and how many records each gets: slow ones fewer, so that a run takes a few seconds. `module` is
    our consumer in `workbench.bench`. `connections` are those of the bare loop and of our pool; 0 without a database.
    """

    name: str
    title: str
    partitions: int
    keys: int
    pause: tuple[float, float]
    records: dict[str, int]
    module: str = "evenkeel"
    connections: int = 0

    def only(self, runners: Collection[str]) -> "Shape":
        """Return the same work for those of `runners` that take part."""
        return replace(self, records={name: count for name, count in self.records.items() if name in runners})

    def quick(self) -> "Shape":
        """Return the same work with a tenth of the records, for a look whether it runs."""
        return replace(self, records={runner: -(-records // 10) for runner, records in self.records.items()})


_ALL = (
    Shape(
        "5ms",
        "5 ms, 4 partitions, 100 keys",
        partitions=4,
        keys=100,
        pause=(0.005, 0.005),
        records={OURS: 40_000, ACK: 400, ACK_FIRST: 8_000, SERIAL: 400, PARALLEL: 6_000},
    ),
    Shape(
        "0-5ms",
        "0 to 5 ms, 1 partition, 1,000 keys",
        partitions=1,
        keys=1_000,
        pause=(0.0, 0.005),
        records={OURS: 60_000, ACK: 600, ACK_FIRST: 10_000, SERIAL: 600, PARALLEL: 12_000},
    ),
    Shape(
        "50ms",
        "50 ms, 4 partitions, 1,000 keys",
        partitions=4,
        keys=1_000,
        pause=(0.050, 0.050),
        records={OURS: 10_000, ACK: 80, ACK_FIRST: 6_000, SERIAL: 80, PARALLEL: 6_000},
    ),
    Shape(
        "noop",
        "no-op, 4 partitions, 1,000 keys",
        partitions=4,
        keys=1_000,
        pause=(0.0, 0.0),
        records={
            OURS: 200_000, TRACED: 100_000, ACK: 2_500, ACK_FIRST: 10_000, SERIAL: 4_000, PARALLEL: 80_000,
            CEILING: 300_000,
        },
    ),
    Shape(
        "db",
        "inbox and one insert, 4 partitions, 1,000 keys",
        partitions=4,
        keys=1_000,
        pause=(0.0, 0.0),
        records={OURS: 4_000, BARE: 4_000},
        module="evenkeel_row",
        connections=16,
    ),
    Shape(
        "db-batch",
        "inbox and insert by 500, 4 partitions, 1,000 keys",
        partitions=4,
        keys=1_000,
        pause=(0.0, 0.0),
        records={OURS: 100_000, BARE: 100_000},
        module="evenkeel_batch",
        connections=4,  # one per partition: as many batches as ours can have under way
    ),
    Shape("idle", "an empty topic, 4 partitions", partitions=4, keys=1, pause=(0.0, 0.0), records={OURS: 0}),
)  # fmt: skip

SHAPES = {shape.name: shape for shape in _ALL}
"""By name; `idle` measures memory alone."""
