"""Looks at a consumer every second: its gauges, and whether it makes progress."""

import asyncio

import structlog
from aiokafka.errors import KafkaError

from eventing.clock import monotonic, wall
from eventing.consumer_gauges import Gauges
from eventing.errors import EventingError
from eventing.lane import Place
from eventing.lanes import Lanes
from eventing.port import Client
from eventing.progress import Progress, Sight
from eventing.settle import Settlement

EVERY = 1.0  # seconds between looks
ASK_EVERY = 15.0  # seconds between questions to the broker: what the fetcher does not see, it cannot tell

log = structlog.get_logger()


class Watch:
    """The watch over one member."""

    def __init__(self, group: str, lanes: Lanes, settlement: Settlement, client: Client, *, session: float) -> None:
        """Describe the watch; `session` is in seconds: without an answer for so long, the group goes on without us."""
        self.progress = Progress()
        self._gauges = Gauges(group, lanes)
        self._group = group
        self._lanes = lanes
        self._settlement = settlement
        self._client = client
        self._session = session
        self._cut_off = False
        self._answers = True
        self._ends: dict[Place, int] = {}  # as the broker told them
        self._ask_at = 0.0

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            started = monotonic()
            await asyncio.sleep(EVERY)
            late = max(monotonic() - started - EVERY, 0.0)
            if monotonic() >= self._ask_at:
                await self._ask()
                self._ask_at = monotonic() + ASK_EVERY
            self.mind_the_session()
            self._gauges.observe(self._known_ends(), wall(), late)
            self.progress.see(self._sight())

    def mind_the_session(self) -> None:
        """Start nothing more once the group must have given us up: another member does it."""
        silent = self._client.silent >= self._session
        if silent and not self._cut_off and not self._lanes.frozen:
            log.warning("cut_off", group=self._group, silent_seconds=round(self._client.silent, 1))
            self._cut_off = self._lanes.frozen = True
        elif self._cut_off and not silent:
            self._cut_off = False
            if not self._client.rejoining:  # else they thaw with the next assignment
                self._lanes.frozen = False
                self._settlement.wake()

    async def _ask(self) -> None:
        """Ask the broker whether it answers, and for the ends of our partitions."""
        places = list(self._lanes.partitions)
        try:
            await self._client.check()
            self._ends = await self._client.ends(places) if places and not self._client.rejoining else {}
            self._answers = True
        except (KafkaError, EventingError, OSError, TimeoutError) as error:
            log.debug("broker_silent", group=self._group, error=str(error))
            self._answers = False

    def _known_ends(self) -> dict[Place, int]:
        return {place: max(self._client.end(place) or 0, self._ends.get(place, 0)) for place in self._lanes.partitions}

    def _sight(self) -> Sight:
        lanes, settlement = self._lanes, self._settlement
        asked = [place for place in lanes.partitions if place in self._ends]
        behind = sum(max(self._ends[place] - lanes.partitions[place].watermark, 0) for place in asked)
        held = (
            self._cut_off
            or settlement.gate.reason
            or settlement.breaker.reason
            or settlement.unwritten_since is not None
        )
        return Sight(
            now=monotonic(),
            finished=lanes.finished,
            behind=behind if asked and self._answers else None,
            waits=bool(lanes.running or lanes.resting or held),
            rejoining=self._client.rejoining,
            answers=self._answers,
        )
