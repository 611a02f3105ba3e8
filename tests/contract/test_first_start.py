"""Where a group begins that has no offsets: with what is there, or, once and never again, with what comes."""

import asyncio

import pytest
from tests.contract.desk import PARTITIONS, Ticked, on_desk

from eventing import Permanent
from eventing.clock import wall
from eventing.commit import EVERY
from eventing.errors import Misconfigured


class Newcomer:
    """A group that begins with what comes, and what it has seen; numbers below zero fail while it is broken."""

    def __init__(self, desk, start="latest"):
        self.consumer, self.seen, self.broken = desk.consumer(start=start), [], [True]

        @self.consumer.on(Ticked)
        async def handle(tick: Ticked) -> None:
            if tick.n < 0 and self.broken:
                raise Permanent("not yet repaired")
            self.seen.append(tick.n)


async def begun(desk, newcomer):
    """Let a group begin."""
    await desk.publish(("k", 0), partition=0)
    async with desk.running(newcomer.consumer) as runtime:
        await desk.until(lambda: (desk.topic, 1) in runtime.lanes.partitions)
        await desk.until(lambda: runtime.lanes.partitions[desk.topic, 0].committed >= 0)


@pytest.mark.parametrize("start", ["earliest", "latest"])
@on_desk
async def test_a_group_without_offsets_begins_where_it_says(desk, start):
    group = Newcomer(desk, start)
    await desk.publish(("k", 0), partition=0)
    async with desk.running(group.consumer) as runtime:
        await desk.until(lambda: (desk.topic, 0) in runtime.lanes.partitions)
        await desk.publish(("k", 1), partition=0)
        await desk.until(lambda: group.seen[-1:] == [1])
    assert group.seen == ([0, 1] if start == "earliest" else [1])


@on_desk
async def test_where_it_began_is_committed_at_once_and_for_every_partition(desk):
    await begun(desk, Newcomer(desk))
    committed = await desk.committed()
    assert {number: offset for (topic, number), (offset, _) in committed.items() if topic == desk.topic} == {0: 1, 1: 0}
    assert all(note.startswith("v1:first=2@") for (topic, _), (_, note) in committed.items() if topic == desk.topic)


@on_desk
async def test_where_it_began_is_committed_before_the_next_regular_commit(memory):
    group = Newcomer(memory)
    async with memory.running(group.consumer) as runtime:
        await memory.until(lambda: runtime.lanes.partitions)
        await asyncio.sleep(EVERY / 100)
        assert await memory.committed()


@on_desk
async def test_what_came_while_nobody_ran_is_handled(desk):
    group = Newcomer(desk)
    await begun(desk, group)
    await desk.publish(("k", 1), partition=0)
    await desk.publish(("j", 2), partition=1)
    async with desk.running(group.consumer):
        await desk.until(lambda: sorted(group.seen) == [1, 2])
        await desk.done(3)


@on_desk
async def test_a_commit_that_moves_says_still_where_it_began(desk):
    group = Newcomer(desk)
    await begun(desk, group)
    before = await desk.committed()
    await desk.publish(("k", -1), ("k", 1), partition=0)
    async with desk.running(group.consumer):
        await desk.done(3)
    after = await desk.committed()
    assert (after[desk.topic, 0][0], after[desk.topic, 0][1]) == (3, before[desk.topic, 0][1])


@on_desk
async def test_a_partition_that_is_added_later_is_read_from_its_beginning(desk):
    group = Newcomer(desk)
    await begun(desk, group)
    await desk.grow()
    await desk.publish(("k", 1), partition=PARTITIONS)
    async with desk.running(group.consumer):
        await desk.until(lambda: group.seen == [1])


@on_desk
async def test_a_partition_that_lost_its_commit_is_read_from_when_the_group_began(desk):
    group = Newcomer(desk)
    await desk.publish(("k", 0), partition=1)
    began = int(wall() * 1000) + 1
    await desk.until(lambda: wall() * 1000 > began + 1)
    await desk.publish(("k", 1), partition=1)
    await desk.pretend_committed(0, f"v1:first=2@{began}", [0])
    async with desk.running(group.consumer):
        await desk.until(lambda: group.seen == [1])


@on_desk
async def test_a_group_that_cannot_tell_when_it_began_is_refused(desk):
    group = Newcomer(desk)
    await desk.publish(("k", 0), partition=1)
    await desk.pretend_committed(0, partitions=[0])
    with pytest.raises(Misconfigured, match="none says when it first read the topic: commit an offset"):
        await runs_to_its_end(desk, group)
    assert group.seen == []


async def runs_to_its_end(desk, group):
    async with desk.running(group.consumer) as runtime:
        await desk.until(lambda: runtime.state == "stopped")
        await desk.ended()


@on_desk
async def test_dead_letters_that_were_sent_back_before_their_topic_was_read_are_handled(desk):
    group = Newcomer(desk)
    desk.withheld.add(desk.back)
    await begun(desk, group)
    await desk.publish(("k", -1), partition=0)
    async with desk.running(group.consumer):
        await desk.buried(1)
    group.broken.clear()
    await desk.create(desk.back)
    await desk.redrive()
    async with desk.running(group.consumer):
        await desk.until(lambda: group.seen == [-1])
