"""Lanes → Kafka: commit what is finished, and nothing else."""

import asyncio
from contextlib import ExitStack

import structlog
from aiokafka.errors import CommitFailedError, KafkaError

from eventing import tracing
from eventing.lane import Place
from eventing.lanes import Lanes
from eventing.metrics import COMMIT_FAILURES, FENCED
from eventing.port import Client

EVERY = 1.0  # seconds between commits
AFTER = 500  # finished records that ask for one sooner

log = structlog.get_logger()


class Committer:
    """Commits the watermarks of one member, one commit at a time."""

    def __init__(self, group: str, lanes: Lanes) -> None:
        self._group = group
        self._lanes = lanes
        self._one_at_a_time = asyncio.Lock()
        self._finished = 0  # records, at the last commit

    @property
    def due(self) -> bool:
        """True when enough has been finished to commit before the time."""
        return self._lanes.finished - self._finished >= AFTER

    async def commit(self, client: Client, *, noted: bool = True) -> None:
        """Commit the watermarks that moved; a refusal is counted: the records come again, to us or to another.

        Args:
            client: of the group.
            noted: with full notes; between two regular commits, watermarks are enough.
        """
        async with self._one_at_a_time:
            offsets = self._lanes.uncommitted(noted=noted)
            self._finished = self._lanes.finished
            if not offsets:
                return
            try:
                with _spans(offsets, self._group):
                    await client.commit(offsets)
            except (KafkaError, TimeoutError, OSError) as error:
                self._refused(error)
                return
            for place, (offset, note) in offsets.items():
                if (partition := self._lanes.partitions.get(place)) is not None:
                    partition.committed, partition.noted = offset, note

    def _refused(self, error: Exception) -> None:
        COMMIT_FAILURES.labels(self._group, type(error).__name__).inc()
        if isinstance(error, CommitFailedError):
            FENCED.labels(self._group).inc()
        log.warning("commit_failed", group=self._group, error=f"{type(error).__name__}: {error}")


def _spans(offsets: dict[Place, tuple[int, str]], group: str) -> ExitStack:
    spans = ExitStack()
    if tracing.exporting():
        for topic in sorted({topic for topic, _ in offsets}):
            highest = max(offset for (t, _), (offset, _) in offsets.items() if t == topic)
            spans.enter_context(tracing.committing(topic, group, highest))
    return spans
