"""The client port: all that the consumer runtime asks of Kafka, over aiokafka 0.14.

No deserializers (one bad record would discard healthy ones of other partitions), no `pause` (it throws away
what was fetched), no commit without offsets, no cancelled poll, every wait bounded.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata

from eventing.clock import monotonic, wall
from eventing.errors import Misconfigured, Unavailable
from eventing.event import Record
from eventing.first_start import FirstStart
from eventing.identity import Identity
from eventing.lane import Place
from eventing.port import Listener, Start
from eventing.settings import Settings

NOWHERE = TopicPartition("__eventing_nowhere", 0)  # never assigned: polling it keeps the member alive and buffers whole
# Milliseconds a broker holds back an empty answer. It has one request of ours at a time: one that asks for nothing but
# quiet partitions (of redrives, say) keeps busy ones waiting for so long once their buffers are empty.
FETCH_WAIT = 100


class KafkaClient:
    """One member of a consumer group."""

    def __init__(self, settings: Settings, group: str, *, on_assigned: Listener, on_revoked: Listener) -> None:
        """Describe the member.

        Args:
            settings: broker, timeouts.
            group: the consumer group.
            on_assigned: awaited with the new partitions; none of them has a position yet.
            on_revoked: awaited before partitions go to others; must not raise.
        """
        self._timeout = settings.kafka_request_timeout
        self._on_assigned = on_assigned
        self._listener = _Listener(self._assigned, on_revoked)
        self._generation: int | None = None  # in which our partitions were assigned
        self._heard = monotonic()
        self._group = group
        self._identity = Identity(settings.consumer_instance_id)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap,
            client_id=settings.kafka_client_id or settings.service,
            group_id=group,
            group_instance_id=settings.consumer_instance_id or None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=int(settings.consumer_session_timeout * 1000),
            heartbeat_interval_ms=int(settings.consumer_session_timeout * 1000 / 4),
            # The whole group waits for the slowest drain; the broker must not give up on us meanwhile.
            rebalance_timeout_ms=int((settings.consumer_drain_timeout + 45) * 1000),
            max_poll_interval_ms=300_000,
            request_timeout_ms=int(settings.kafka_request_timeout * 1000),
            fetch_max_wait_ms=FETCH_WAIT,
            metadata_max_age_ms=30_000,
        )

    async def start(self, topics: Iterable[str]) -> None:
        """Connect and join the group.

        Raises:
            KafkaError: no broker answered.
        """
        await asyncio.wait_for(self._consumer.start(), self._timeout)
        self._listen_to_heartbeats(self._consumer._coordinator)  # noqa: SLF001  # nothing public tells whether they are answered
        if self._identity.name:
            self._identity.keep(self._consumer._coordinator)  # noqa: SLF001  # see there
        self._consumer.subscribe(list(topics), listener=self._listener)

    async def stop(self) -> None:
        """Leave the group and close; bounded. Nothing is committed and no listener is called."""
        try:
            await asyncio.wait_for(self._consumer.stop(), self._timeout)
        except (TimeoutError, KafkaError, OSError, asyncio.CancelledError):
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            # Without a broker stop() hangs; or it passes on the cancellation of a fetch of its own, as if it were ours.
            await asyncio.wait_for(self._consumer._client.close(), self._timeout)  # noqa: SLF001

    def _listen_to_heartbeats(self, coordinator: Any) -> None:
        beat = coordinator._do_heartbeat  # noqa: SLF001  # see above

        async def heard() -> Any:
            answered = await beat()
            if answered:
                self._heard = monotonic()
            return answered

        coordinator._do_heartbeat = heard  # noqa: SLF001  # see above

    async def _assigned(self, places: list[Place]) -> None:
        self._generation = self._consumer._coordinator.generation  # noqa: SLF001  # nothing public tells
        self._heard = monotonic()
        await self._on_assigned(places)

    @property
    def silent(self) -> float:
        """Seconds since the group last answered us: after a session without an answer it goes on without us."""
        return monotonic() - self._heard

    @property
    def broken(self) -> bool:
        """True when the client's own task has ended: it will never join again and must be replaced."""
        return bool(self._consumer._coordinator._coordination_task.done())  # noqa: SLF001  # nothing public tells

    @property
    def rejoining(self) -> bool:
        """True while the group is being rebalanced: polls return nothing until it is over."""
        return bool(self._consumer._subscription.reassignment_in_progress)  # noqa: SLF001  # nothing public tells

    async def poll(self, places: Sequence[Place], *, limit: int, seconds: float) -> dict[Place, Sequence[Record]]:
        """Return new records of `places`, at most `limit`; with no places, only stay alive.

        Raises:
            Misconfigured: another member has taken our fixed identity.
            Exception: whatever a record or the group did to the client; positions are unreliable afterwards
                and have to be set again with `seek`.
        """
        asked = [TopicPartition(*place) for place in places] or [NOWHERE]
        try:
            found = await self._consumer.getmany(*asked, timeout_ms=int(seconds * 1000), max_records=limit)
        except KafkaError as error:
            if self._identity.replaced:
                raise Misconfigured(
                    f"another member of group {self._group} has the identity {self._identity.name!r}; "
                    "give each its own EVENTING_CONSUMER_INSTANCE_ID"
                ) from error
            raise
        return {(tp.topic, tp.partition): records for tp, records in found.items()}

    async def starts(self, places: Sequence[Place], latest: Collection[str] = ()) -> dict[Place, Start]:
        """Return where to begin each partition: its committed offset, else by policy; see the port.

        A committed offset that has expired is raised to the first that still exists, and the difference is lost; one
        beyond the end, which no poll would ever get past, is set back to it.
        """
        asked = [TopicPartition(*place) for place in places]
        found: dict[Place, Start] = {}
        async with asyncio.timeout(self._timeout):
            known = await self._committed(asked)
            first = await self._consumer.beginning_offsets(asked)
            last = await self._consumer.end_offsets(asked)
            new = [tp for tp in asked if tp not in known]
            begun = {topic: await self._first_start(topic) for topic in {tp.topic for tp in new} & {*latest}}
            times = {tp: begun[tp.topic].at for tp in new if tp.topic in begun}
            times = {tp: at for tp, at in times.items() if begun[tp.topic].looks_up(tp.partition)}
            written = await self._consumer.offsets_for_times(times) if times else {}
        for tp in asked:
            if tp in known:
                start = Start.after(known[tp].offset, known[tp].metadata, first[tp], last[tp])
            elif tp.topic in begun:
                since = written[tp].offset if written.get(tp) else None
                start = begun[tp.topic].begin(tp.partition, first[tp], last[tp], since)
            else:
                start = Start(first[tp], fresh=True)
            found[tp.topic, tp.partition] = start
        return found

    async def _committed(self, asked: list[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        committed = await self._consumer._coordinator.fetch_committed_offsets(asked)  # noqa: SLF001  # the public call drops the metadata
        return {tp: known for tp, known in committed.items() if known.offset >= 0}

    async def _first_start(self, topic: str) -> FirstStart:
        """Return when the group first read a topic, by its commits of all partitions."""
        numbers = self._consumer.partitions_for_topic(topic) or set()
        known = await self._committed([TopicPartition(topic, number) for number in numbers])
        notes = [committed.metadata for committed in known.values()]
        return FirstStart.of(self._group, topic, notes, len(numbers), wall())

    def seek(self, place: Place, offset: int) -> None:
        """Continue a partition at `offset`; ignored when it is no longer ours."""
        tp = TopicPartition(*place)
        if tp in self._consumer.assignment():
            self._consumer.seek(tp, offset)

    def position(self, place: Place) -> int | None:
        """Return the offset after what the client has passed, markers and gaps included; None when unknown."""
        assigned = self._consumer._subscription.subscription.assignment  # noqa: SLF001  # the public call waits for a position
        state = assigned.state_value(TopicPartition(*place)) if assigned is not None else None
        return state.position if state is not None and state.has_valid_position else None

    async def commit(self, offsets: dict[Place, tuple[int, str]]) -> None:
        """Commit explicit offsets, each with a note.

        Raises:
            KafkaError: refused (`CommitFailedError`: the group has moved on), or not answered in time.
        """
        told = {TopicPartition(*place): OffsetAndMetadata(*known) for place, known in offsets.items()}
        async with asyncio.timeout(5.0):
            while True:
                try:
                    return await self._commit_once(told)
                except (IllegalGenerationError, UnknownMemberIdError, RebalanceInProgressError) as error:
                    raise CommitFailedError(f"the group has moved on: {error}") from error
                except KafkaError as error:
                    if not error.retriable:
                        raise
                await asyncio.sleep(0.1)

    async def _commit_once(self, told: dict[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit under the generation in which the partitions were assigned, or not at all.

        aiokafka's own `commit` tries again under whatever generation there is by then; without one, which is what a
        member has that was thrown out, an empty group believes anybody.
        """
        coordinator = self._consumer._coordinator  # noqa: SLF001  # see above
        await coordinator.ensure_coordinator_known()
        assigned = self._consumer._subscription.subscription.assignment  # noqa: SLF001  # see above
        if coordinator.generation != self._generation or assigned is None or not told.keys() <= set(assigned.tps):
            raise CommitFailedError("the group has moved on")
        await coordinator._do_commit_offsets(assigned, told)  # noqa: SLF001  # see above

    def end(self, place: Place) -> int | None:
        """Return the last stable offset of a partition, None before the first fetch."""
        tp = TopicPartition(*place)
        if tp not in self._consumer.assignment():
            return None
        end: int | None = self._consumer.last_stable_offset(tp)
        return end

    async def ends(self, places: Sequence[Place]) -> dict[Place, int]:
        """Ask the broker for the ends of partitions, whatever the fetcher has or has not seen."""
        async with asyncio.timeout(self._timeout):
            found = await self._consumer.end_offsets([TopicPartition(*place) for place in places])
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def check(self) -> None:
        """Raise unless a broker answers; for readiness. A member does not notice by itself: its polls are just empty.

        Raises:
            Unavailable: none did.
        """
        if not await self._consumer._client.force_metadata_update():  # noqa: SLF001  # the public calls swallow the outcome
            raise Unavailable("Kafka does not answer")

    async def missing(self, topics: Iterable[str]) -> list[str]:
        """Return those of `topics` that the cluster does not have, or does not show to us.

        Raises:
            Unavailable: no broker answered.
        """
        asked, cluster = list(topics), ClusterMetadata()
        if not await self._consumer._client._metadata_update(cluster, asked):  # noqa: SLF001  # the public calls know subscribed topics alone
            raise Unavailable("Kafka does not answer")
        return [topic for topic in asked if topic not in cluster.topics()]


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    def __init__(self, on_assigned: Listener, on_revoked: Listener) -> None:
        self._on_assigned, self._on_revoked = on_assigned, on_revoked

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._on_revoked([(tp.topic, tp.partition) for tp in revoked])

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._on_assigned([(tp.topic, tp.partition) for tp in assigned])
