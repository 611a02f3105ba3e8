"""A member of a group in memory: the client port over `Broker`, with a fault point before and after each step."""

import asyncio
from collections.abc import Collection, Iterable, Sequence

from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from eventing.clock import wall
from eventing.event import Record
from eventing.first_start import FirstStart
from eventing.lane import Place
from eventing.port import Listener, Start
from eventing.testing.broker import Broker

SESSION = 10.0  # seconds after which a member that died is missed
NOTICE = 1.0  # seconds until a member finds out that it was evicted; a heartbeat


class MemoryClient:
    """One member."""

    silent = 0.0

    def __init__(
        self,
        broker: Broker,
        group: str,
        on_assigned: Listener,
        on_revoked: Listener,
        *,
        who: object = None,
        session: float = SESSION,
    ) -> None:
        """Describe the member; `who` is told to the broker's faults, and missed `session` seconds after its death."""
        self._who = who
        self._session = session
        self.rejoining = False
        self._broker = broker
        self._name, self._group = group, broker.group(group)
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._topics: tuple[str, ...] = ()
        self._generation = -1
        self._positions: dict[Place, int | None] = {}
        self._rejoined = asyncio.Event()
        self._coordination: asyncio.Task[None] | None = None

    @property
    def broken(self) -> bool:
        """True when its own task has ended: it will never join again."""
        return self._coordination is not None and self._coordination.done()

    async def start(self, topics: Iterable[str]) -> None:
        """Join the group."""
        await self._broker.at("start", self._who)
        self._topics = tuple(topics)
        self._begin_rejoin()
        self._group.join(self, self._topics)
        self._coordination = asyncio.create_task(self._coordinate())
        self._coordination.add_done_callback(self._die)

    async def stop(self) -> None:
        """Leave the group."""
        try:
            await self._broker.at("stop", self._who)
            self._group.leave(self)
        finally:
            if self._coordination is not None:
                self._coordination.cancel()

    def _die(self, _: object) -> None:
        """Send no more heartbeats: the group misses us in a while, unless we have left it."""
        asyncio.get_running_loop().call_later(self._session, self._group.leave, self)

    def _begin_rejoin(self) -> None:
        self.rejoining = True
        self._rejoined.clear()

    async def _coordinate(self) -> None:
        """Take part in every rebalance: give up what we have, wait for the others, take what we are given."""
        while True:
            changed = self._group.changed
            if self._group.stable and self._generation == self._group.generation and self._group.knows(self):
                await changed.wait()
                if not self._group.knows(self):
                    await asyncio.sleep(NOTICE)  # evicted: until the next heartbeat it works on as if nothing were
            self._begin_rejoin()
            await self._broker.at("revoke", self._who)
            await self._on_revoked(list(self._positions))
            self._positions = {}
            if not self._group.knows(self):
                self._group.join(self, self._topics)
            self._generation, places = await self._group.sync(self)
            await self._broker.at("assign", self._who)
            self._positions = dict.fromkeys(places)
            self.rejoining = False
            await self._on_assigned(places)
            self._rejoined.set()

    async def poll(self, places: Sequence[Place], *, limit: int, seconds: float) -> dict[Place, Sequence[Record]]:
        """Return new records of `places`.

        Raises:
            OffsetOutOfRangeError: those we are at have expired.
        """
        await self._broker.at("poll", self._who)
        try:
            async with asyncio.timeout(seconds):
                await self._rejoined.wait()
                while not (found := self._fetch(places, limit)):
                    await self._broker.appended.wait()
        except TimeoutError:
            return {}
        return found

    def _fetch(self, places: Sequence[Place], limit: int) -> dict[Place, Sequence[Record]]:
        """Return what is there. As with aiokafka, an error discards what other partitions already gave."""
        found: dict[Place, Sequence[Record]] = {}
        for place in places:
            position = self._positions.get(place)
            if position is None or limit <= 0:
                continue
            try:
                records, self._positions[place] = self._broker.log(place).read(position, limit)
            except OffsetOutOfRangeError:
                raise OffsetOutOfRangeError({TopicPartition(*place): position}) from None
            limit -= len(records)
            if records:
                found[place] = records
        return found

    async def starts(self, places: Sequence[Place], latest: Collection[str] = ()) -> dict[Place, Start]:
        """Return where to begin each partition; see the port."""
        await self._broker.at("starts", self._who)
        found = {place: self._start(place, latest=place[0] in latest) for place in places}
        await self._broker.at("started", self._who)
        return found

    def _start(self, place: Place, *, latest: bool) -> Start:
        log, (topic, partition) = self._broker.log(place), place
        if place in self._group.committed:
            return Start.after(*self._group.committed[place], log.start, log.end)
        if not latest:
            return Start(log.start, fresh=True)
        notes = [note for (t, _), (_, note) in self._group.committed.items() if t == topic]
        begun = FirstStart.of(self._name, topic, notes, len(self._broker.logs[topic]), wall())
        written = (r.offset for r in log.records if begun.looks_up(partition) and r.timestamp >= begun.at)
        return begun.begin(partition, log.start, log.end, next(written, None))

    def seek(self, place: Place, offset: int) -> None:
        """Continue a partition at `offset`."""
        if place in self._positions:
            self._positions[place] = offset

    def position(self, place: Place) -> int | None:
        """Return the offset after what we have passed."""
        return self._positions.get(place)

    async def commit(self, offsets: dict[Place, tuple[int, str]]) -> None:
        """Commit; refused when the group has moved on."""
        await self._broker.at("commit", self._who)
        self._group.commit(self, self._generation, offsets)
        await self._broker.at("committed", self._who)

    def end(self, place: Place) -> int | None:
        """Return the end of a partition."""
        return self._broker.log(place).end if place in self._positions else None

    async def ends(self, places: Sequence[Place]) -> dict[Place, int]:
        """Return the ends of partitions."""
        return {place: self._broker.log(place).end for place in places}

    async def check(self) -> None:
        """Do nothing: this broker answers."""

    async def missing(self, topics: Iterable[str]) -> list[str]:
        """Return those of `topics` that do not exist."""
        return [topic for topic in topics if topic not in self._broker.logs]
