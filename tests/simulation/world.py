"""Carries out a schedule on the shipped runtime: a group on a broker in memory, and handlers that do as scripted."""

import asyncio
import json
import random

from tenacity import wait_fixed
from tests.simulation.journal import Broken, Journal
from tests.simulation.schedule import Do, Pass, Schedule, Send, Step

from eventing import Consumer, Contract, Event, Overload, Permanent, Retries, Temporary
from eventing.errors import EventingError
from eventing.port import Fence
from eventing.subscription import all_topics, written_topics
from eventing.testing import Faults, Harness, VirtualLoop
from eventing.testing.fence import MemoryFence
from eventing.testing.member import NOTICE

TOPIC = "sim"
PATIENCE = 600.0  # seconds of virtual time in which everything has to settle
PROBE = 60.0  # more for each record: an open breaker lets one through
OUTLIVES = 6.0  # seconds that a handler may run on after its partition is gone: a stall, and a wait behind it
TIERS = (1, 3)
MEMBERS = 3  # at most
REDRIVES = 3  # at the end
STORM = 8.0  # seconds of virtual time in which troubles may still happen after the last step


class Ticked(Contract, type="sim.ticked.v1", topic=TOPIC, key="key"):
    key: str
    n: int
    action: str = "ticked"


class ScriptedFence(MemoryFence):
    """Parked keys, with points where something may go wrong."""

    def __init__(self, at) -> None:
        super().__init__()
        self._at = at

    async def enter(self, spot):
        await self._at("fence")
        turn = await super().enter(spot)
        await self._at("fenced")
        return turn

    async def park(self, spot):
        await self._at("fence")
        await super().park(spot)
        await self._at("fenced")

    async def lift(self, spot):
        await self._at("fence")
        lifted = await super().lift(spot)
        await self._at("fenced")
        return lifted


class World:
    """One run of one schedule."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.loop = asyncio.get_running_loop()
        self.faults = Faults(*schedule.troubles)
        self.journal = Journal(self)
        self.plans: list[Send] = []
        self.overloads: list[int] = []
        self.calm = False
        self.broken: Broken | None = None
        self.consumer = self._consumer()
        self.fence = ScriptedFence(self._fence_point)
        self.harness = Harness(
            self.consumer,
            provide={Fence: self.fence},
            members=schedule.members,
            partitions=schedule.partitions,
            fault=self._point,
            consumer_concurrency=schedule.concurrency,
            consumer_max_records=schedule.max_records,
            consumer_max_bytes=schedule.max_bytes,
            consumer_drain_timeout=1.0,
            consumer_session_timeout=2.0,
            consumer_breaker_share=1.0,
            consumer_breaker_row=schedule.row,
        )
        self.broker = self.harness.broker
        self.group = self.broker.group("g")
        self.written = written_topics(self.consumer)

    @property
    def stalls(self) -> bool:
        """True when a handler outlives a drain."""
        waits = any(trouble.kind == "wait" for trouble in self.schedule.troubles)
        return waits or any(word.startswith("stall") for plan in self.plans for word in plan.words)

    @property
    def writes_at_once(self) -> bool:
        """True when nothing can happen between a decision to write a record elsewhere and the writing."""
        slow = any(t.kind == "wait" and t.point in ("send", "fence", "fenced") for t in self.schedule.troubles)
        return not slow and not self.schedule.batch

    def name(self, member) -> str:
        """Return a short name of a member."""
        return f"m{self.harness.members.index(member)}"

    def is_spoiled(self, record) -> bool:
        """Tell whether no client can read a record."""
        return record.offset in self.broker.log((record.topic, record.partition)).spoiled

    def _consumer(self) -> Consumer:
        schedule = self.schedule
        tiers = TIERS if schedule.mode == "tiers" else ()
        consumer = Consumer(
            "g",
            ordering="key" if schedule.ordered else "none",
            exhausted=schedule.exhausted,
            tiers=tiers,
            retries=None if tiers else Retries(schedule.attempts, wait_fixed(0.4)),
        )
        if schedule.batch:

            @consumer.on_batch(Ticked, size=4)
            async def handle_all(ticks: list[Ticked], events: list[Event]) -> None:
                await self.handle(ticks, events)
        else:

            @consumer.on(Ticked)
            async def handle(tick: Ticked, event: Event) -> None:
                await self.handle([tick], [event])

        return consumer

    async def handle(self, ticks: list[Ticked], events: list[Event]) -> None:
        """Do as scripted."""
        member, result = self.harness.here, "cut"
        run = frozenset((event.topic, event.partition, event.offset) for event in events)
        for event in events:
            self._checked(self.journal.begins, member, event, run)
        try:
            await self.broker.at("handle", member)
            for tick, event in zip(ticks, events, strict=True):
                await self._act(tick.n, event)
            result = "ok"
        except Overload:
            result = "overloaded"
            raise
        except Exception:
            result = "failed"
            raise
        finally:
            for event in events:
                self.journal.ends(member, event, result if member.process.alive else "cut")

    async def _act(self, n: int, event: Event) -> None:
        plan = self.plans[n]
        word = plan.words[event.attempt - 1] if event.attempt <= len(plan.words) else ""
        if self.overloads[n]:
            self.overloads[n] -= 1
            raise Overload("scripted")
        if word in _LASTING:
            await asyncio.sleep(_LASTING[word] if not self.calm else 0.0)
        if event.redrives < plan.heals and word in _ERRORS:
            error = _ERRORS[word]()
            raise error

    def _checked(self, check, *what) -> None:
        """Check an invariant; the first that breaks is kept, since the runtime outlives what handlers raise."""
        try:
            check(*what)
        except Broken as broken:
            self.broken = self.broken or broken
            self.journal.note("BROKEN", broken)

    async def _fence_point(self, point: str) -> None:
        await self.broker.at(point, self.harness.here)

    async def _point(self, point: str, member) -> None:
        if point == "committed":
            self._checked(self.journal.committed, member)
        elif point == "sent":
            self._checked(self.journal.wrote, member)
        self._checked(self.journal.check_memory, member)
        self.journal.note(point, self.name(member))
        await self.faults(point, member)
        if point == "revoke":
            self.journal.revoking.add(member)
        elif point == "assign":
            self.journal.revoking.discard(member)

    async def run(self) -> None:
        """Carry the schedule out, then let everything settle and check what is left."""
        await self.begin()
        for step in self.schedule.steps:
            await self.do(step)
        await self.end()

    async def begin(self) -> None:
        """Start the members."""
        await self.harness.__aenter__()

    async def do(self, step: Step) -> None:
        """Do one step; a group that nobody is left of gets a new member."""
        await self._step(step)
        self._revive()
        self._ok()

    async def end(self) -> None:
        """Let everything settle, check what is left, stop, and check again."""
        await self._work_on()
        await self._settle()
        await self.harness.__aexit__()
        self._ok()
        self._check_commits()

    def _ok(self) -> None:
        if self.broken is not None:
            raise self.broken

    @property
    def live(self) -> list:
        """Members that run and mean to go on."""
        return [
            member
            for member in self.harness.members
            if member.process.running and not member.process.crashed and not member.stop.is_set()
        ]

    def _revive(self) -> None:
        if not self.live:
            self.harness.join()

    async def _step(self, step: Step) -> None:
        self.journal.note(step)
        match step:
            case Send():
                self._send(step)
            case Pass(seconds):
                await asyncio.sleep(seconds)
            case Do("turns", turns):
                for _ in range(turns):
                    await asyncio.sleep(0)
            case Do("redrive"):
                await self._redrive()
            case Do(word, what):
                getattr(self, f"_{word}")(what)

    async def _redrive(self) -> int:
        return await self.harness.redrive() if self.schedule.exhausted != "block" else 0

    def _rebalance(self, _: int) -> None:
        self.harness.rebalance()

    def _join(self, _: int) -> None:
        if len(self.live) < MEMBERS:
            self.harness.join()

    def _leave(self, which: int) -> None:
        self.live[which % len(self.live)].stop.set()

    def _crash(self, which: int) -> None:
        self.live[which % len(self.live)].crash()

    def _evict(self, which: int) -> None:
        self.live[which % len(self.live)].evict()

    def _gap(self, what: int) -> None:
        self.broker.skip((TOPIC, what % self.schedule.partitions), 1 + what % 2)

    def _expire(self, what: int) -> None:
        place = (TOPIC, what % self.schedule.partitions)
        self.broker.expire(place, self.broker.log(place).end - what)
        self.journal.expire(place, self.broker.log(place).start)

    def _send(self, step: Send) -> None:
        n = len(self.plans)
        self.plans.append(step)
        self.overloads.append(step.overloads)
        value = json.dumps({"action": "ticked", "key": "k", "n": n}).encode()
        written = [("who", b"first"), ("who", b"second")]
        match step.flaw:
            case "null":
                value = None
            case "body":
                value = b"\xff\x00"
            case "header":
                written.append(("odd", b"\xff"))
        record = self.broker.append(TOPIC, value, key=step.key, headers=written, partition=step.partition)
        if step.flaw == "spoiled":
            self.broker.spoil(record)
        self.journal.sent(record, flawed=bool(step.flaw))

    async def _work_on(self) -> None:
        """Go on for a while, as long as there is work, with everything that may still go wrong."""
        until, pause = self.loop.time() + STORM, 0.05
        while self.harness.unfinished() and self.loop.time() < until:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)
            self._revive()
            if self.schedule.hasty:
                await self._redrive()
            self._ok()

    async def _settle(self) -> None:
        """End all troubles, bring back what can be brought back, and send one healthy record everywhere."""
        self.faults.stop()
        self.calm = True
        self._revive()
        await asyncio.sleep(1.1 * NOTICE)  # who was evicted knows by now
        await self._settled()
        for _ in range(REDRIVES):
            if await self._redrive():
                await self._settled()
        for round_ in range(4):
            for partition in range(self.schedule.partitions):
                self._send(Send(b"last%d" % round_, partition))
            await self._settled()
            if not self._shut():
                break
        await self._outlived()
        self._check_rest()
        self.journal.check_end()

    async def _settled(self) -> None:
        try:
            await self.harness.settled(PATIENCE + PROBE * len(self.plans))
        except EventingError as error:
            self._ok()
            raise Broken(str(error)) from error
        self._ok()

    async def _outlived(self) -> None:
        """Wait for what was late for its drain."""
        until = self.loop.time() + OUTLIVES
        while any(member.runtime.lanes.running for member in self.live) and self.loop.time() < until:
            await asyncio.sleep(0.1)

    def _shut(self) -> list[str]:
        """Return why members hold back that have got healthy records: those of no partition of ours may."""
        runtimes = [member.runtime for member in self.live]
        served = [r.settlement for r in runtimes if any(topic == TOPIC for topic, _ in r.lanes.partitions)]
        return [s.gate.reason or s.breaker.reason for s in served if s.shut]

    def _check_rest(self) -> None:
        """Check that nothing is left of what is over."""
        if shut := self._shut():
            raise Broken(f"shut for ever: {shut}")
        for member in self.live:
            lanes, who = member.runtime.lanes, self.name(member)
            if lanes.records or lanes.bytes or lanes.resting or lanes._behind or lanes.running:
                raise Broken(f"{who} holds {lanes.records} records, {lanes.bytes} bytes, {lanes.running}")
            if left := [lane for partition in lanes.partitions.values() for lane in partition.lanes]:
                raise Broken(f"{who} keeps lanes {left}")
            if why := member.runtime.alive():
                raise Broken(f"{who} looks dead: {why}")

    def _check_commits(self) -> None:
        """Check that those who left politely have committed everything, gaps included."""
        for topic in all_topics(self.consumer):
            for number, log in enumerate(self.broker.logs[topic]):
                reached = self.group.committed.get((topic, number), (log.start, ""))[0]
                if reached != log.end:
                    raise Broken(f"{topic}-{number}: everything is finished up to {log.end}, {reached} is committed")


_LASTING = {"turn": 0.0, "slow": 0.3, "slow_temporary": 0.3, "stall": 2.0, "stall_permanent": 2.0}
_ERRORS = {
    "temporary": lambda: Temporary("scripted"),
    "slow_temporary": lambda: Temporary("scripted"),
    "soon": lambda: Temporary("scripted", delay=0.05),
    "value": lambda: ValueError("scripted"),
    "permanent": lambda: Permanent("scripted"),
    "stall_permanent": lambda: Permanent("scripted"),
}


def execute(schedule: Schedule) -> tuple[str | None, "World"]:
    """Run a schedule; returns what broke, and the world in which it did."""
    worlds: list[World] = []

    async def main() -> None:
        worlds.append(World(schedule))
        await worlds[0].run()

    random.seed(0)
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(main())
    except Exception as error:  # whatever it is, it is a finding
        return f"{type(error).__name__}: {error}", worlds[0]
    return None, worlds[0]
