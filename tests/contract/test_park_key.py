"""`park_key`: later events of a key follow the one that was given up, until a redrive brings them back in order."""

import asyncio
from itertools import pairwise

import pytest
from tests.contract.desk import Ticked, body, envelope, on_desk

from eventing import Event, Permanent, parking
from eventing.clock import monotonic
from eventing.errors import Unavailable
from eventing.port import Fence, Spot
from eventing.testing.fence import MemoryFence


class Shop:
    """A consumer that parks keys, whose events of key `bad` fail while they are in `broken`."""

    def __init__(self, desk, broken=(), **options):
        self.consumer = desk.consumer(**{"exhausted": "park_key"} | options)
        self.broken, self.seen, self.failed = {*broken}, [], []

        @self.consumer.on(Ticked)
        async def handle(tick: Ticked, event: Event) -> None:
            if tick.key == "bad" and tick.n in self.broken:
                self.failed.append(tick.n)
                raise Permanent("not yet repaired")
            self.seen.append((tick.key, tick.n))

    def of(self, key):
        return [n for k, n in self.seen if k == key]


def story(letters):
    return [(letter.n, letter.disposition) for letter in letters]


PARKED = [(0, "permanent"), (1, "sequence-parked"), (2, "sequence-parked")]


@on_desk
async def test_later_events_of_a_parked_key_follow_it_in_order_and_other_keys_flow(desk):
    shop = Shop(desk, {0})
    await desk.publish(("bad", 0), ("good", 0), ("bad", 1), ("good", 1), ("bad", 2), partition=0)
    async with desk.running(shop.consumer):
        letters = await desk.buried(3)
        await desk.until(lambda: shop.of("good") == [0, 1])
    assert story(letters) == PARKED
    assert letters[1].known["x-error-type"] == "Parked"
    assert shop.of("bad") == []
    await desk.done(5)


@on_desk
async def test_a_redrive_replays_a_parked_key_in_order_and_frees_it(desk):
    shop = Shop(desk, {0})
    await desk.publish(*(("bad", n) for n in range(3)), partition=0)
    async with desk.running(shop.consumer):
        await desk.buried(3)
        shop.broken.clear()
        await desk.redrive()
        await desk.until(lambda: shop.of("bad") == [0, 1, 2])
        await desk.publish(("bad", 3), partition=0)
        await desk.until(lambda: shop.of("bad") == [0, 1, 2, 3])
    assert len(await desk.letters()) == 3


@on_desk
async def test_a_redriven_event_that_fails_again_keeps_the_others_parked(desk):
    shop = Shop(desk, {0})
    await desk.publish(*(("bad", n) for n in range(3)), partition=0)
    async with desk.running(shop.consumer):
        await desk.buried(3)
        await desk.redrive()
        letters = await desk.buried(6)
        assert story(letters[3:]) == PARKED
        shop.broken.clear()
        await desk.redrive()
        await desk.until(lambda: shop.of("bad") == [0, 1, 2])
    assert shop.failed == [0, 0]


@on_desk
async def test_an_event_that_comes_during_a_redrive_waits_for_its_turn(desk):
    shop = Shop(desk, {0})
    await desk.publish(("bad", 0), partition=0)
    async with desk.running(shop.consumer):
        await desk.buried(1)
        await desk.publish(("bad", 1), partition=0)
        await desk.buried(2)
        await desk.redrive()  # both fail again: the first by itself, the second behind it
        await desk.publish(("bad", 2), partition=0)
        await desk.buried(5)
        shop.broken.clear()
        for _ in range(3):  # a letter in front of its turn goes back to the end
            await desk.redrive()
            await asyncio.sleep(0.5)
        await desk.until(lambda: len(shop.of("bad")) == 3)
    assert shop.of("bad") == [0, 1, 2]


@on_desk
async def test_another_member_and_another_process_know_which_keys_are_parked(desk):
    first, second = Shop(desk, {0}), Shop(desk)
    await desk.publish(("bad", 0), partition=0)
    async with desk.running(first.consumer):
        await desk.buried(1)
        await desk.done(1)
    await desk.publish(("bad", 1), ("good", 1), partition=0)
    async with desk.running(second.consumer):
        letters = await desk.buried(2)
        await desk.until(lambda: second.of("good"))
    assert story(letters) == PARKED[:2]
    assert second.of("bad") == []


@on_desk
async def test_what_was_finished_before_its_key_was_parked_is_neither_run_again_nor_parked(desk):
    shop = Shop(desk, {1})
    await desk.publish(("bad", 0), ("bad", 1), ("bad", 2), partition=0)
    async with desk.running(shop.consumer):
        await desk.buried(2)
        await desk.done(3)
    await desk.forget_commits()
    async with desk.running(shop.consumer):
        await desk.publish(("good", 0), partition=0)
        await desk.until(lambda: shop.of("good"))
    assert shop.of("bad") == [0]
    assert {letter.n for letter in await desk.letters()} == {1, 2}


@on_desk
async def test_a_record_that_cannot_be_read_parks_its_key_and_comes_back_to_it(desk):
    shop = Shop(desk)
    await desk.send(b"{", key=b"bad", partition=0)
    await desk.publish(("bad", 1), partition=0)
    async with desk.running(shop.consumer) as runtime:
        await desk.buried(2)
        await desk.redrive()
        letters = await desk.buried(4)
        assert {key for key, *_ in await parked(desk, runtime)} == {desk.topic}
    assert [letter.disposition for letter in letters] == ["undecodable", "sequence-parked"] * 2


@on_desk
async def test_a_key_waits_for_no_record_that_expired_before_its_dead_letter_was_written(desk):
    shop = Shop(desk, {0})
    desk.withheld.add(desk.dlq)
    await desk.publish(("bad", 0), partition=0)
    async with desk.running(shop.consumer) as runtime:
        await desk.until(lambda: runtime.settlement.unwritten_since is not None)
        assert await parked(desk, runtime) == {(desk.topic, b"bad")}
    await desk.create(desk.dlq)
    await desk.publish(("bad", 1), partition=0)
    await desk.expire(0, 1)
    async with desk.running(shop.consumer) as runtime:
        await desk.until(lambda: shop.of("bad") == [1])
        assert not await parked(desk, runtime)


@on_desk
async def test_a_letter_from_before_keys_were_parked_is_handled_when_it_comes_back(desk):
    before = Shop(desk, {0}, exhausted="skip")
    await desk.publish(("bad", 0), partition=0)
    async with desk.running(before.consumer):
        await desk.buried(1)
        await desk.done(1)
    shop = Shop(desk, {1})
    await desk.publish(("bad", 1), ("bad", 2), partition=0)
    async with desk.running(shop.consumer):
        await desk.buried(3)
        shop.broken.clear()
        await desk.redrive()
        await desk.until(lambda: shop.of("bad") == [0, 1, 2])


def back(desk, n, key=b"bad"):
    """Return a letter of an event that comes back, and where from."""
    origin = {"topic": desk.topic, "partition": 0, "offset": n}
    known = {f"x-origin-{name}": str(value) for name, value in origin.items()} | {"x-redrive-count": "1"}
    headers = [*envelope(key.decode(), n), *((name, value.encode()) for name, value in known.items())]
    return {"key": key, "headers": headers, "topic": desk.back, "partition": 0}


@on_desk
async def test_the_owner_of_a_key_notices_within_seconds_that_another_member_has_parked_it(memory):
    shop = Shop(memory, {0})
    async with memory.running(shop.consumer, members=3):
        await memory.until(lambda: all(member.runtime.state == "consuming" for member in memory.harness.members))
        owners = {place: member for member in memory.harness.members for place in member.client._positions}
        assert owners[memory.topic, 0] is not owners[memory.back, 0]
        await memory.send(body("bad", 0), **back(memory, 0))
        await memory.buried(1)
        await asyncio.sleep(2 * parking.EVERY)
        await memory.publish(("good", 0), ("bad", 1), partition=0)
        assert story(await memory.buried(2)) == PARKED[:2]
    assert shop.seen == [("good", 0)]


@on_desk
async def test_a_key_that_somebody_else_parks_is_followed(desk):
    shop = Shop(desk)
    await desk.publish(("bad", 0), partition=0)
    async with desk.running(shop.consumer) as runtime:
        await desk.until(lambda: shop.of("bad"))
        await runtime._parking._fence.park(Spot(desk.topic, b"bad", 0, 0))
        await asyncio.sleep(2 * parking.EVERY)
        await desk.publish(("bad", 1), partition=0)
        assert story(await desk.buried(1)) == PARKED[1:2]
    assert shop.of("bad") == [0]


@on_desk
async def test_a_member_polls_on_while_nobody_can_tell_which_keys_are_parked(desk):
    shop, fence, polls = Shop(desk), Away(), []
    await desk.publish(("good", 0), partition=0)
    async with desk.running(shop.consumer, provide={Fence: fence}) as runtime:
        await desk.until(lambda: fence.asked)
        polled = runtime.client.poll
        runtime.client.poll = lambda *places, **limits: polls.append(monotonic()) or polled(*places, **limits)
        await asyncio.sleep(2 * desk.patience)
        assert max(b - a for a, b in pairwise(polls)) < 10
        with pytest.raises(Unavailable, match="parked keys cannot be told: the database is away"):
            await runtime.check_group()
        assert (runtime.alive(), shop.seen) == (None, [])
        fence.away = False
        await desk.until(lambda: shop.seen)
        await runtime.check_group()


class Away(MemoryFence):
    """Parked keys in a database that does not answer."""

    def __init__(self):
        super().__init__()
        self.away, self.asked = True, 0

    async def keys(self, *, within=None):
        self.asked += 1
        if self.away:
            raise Unavailable("the database is away")
        return await super().keys()


async def parked(desk, runtime):
    """Return the parked keys of the group, as its members see them."""
    return await runtime._parking._fence.keys()


@pytest.mark.parametrize("at", ["send", "sent"])
@on_desk
async def test_a_crash_between_parking_and_its_dead_letter_loses_nothing(memory, at):
    shop = Shop(memory, {0})
    await memory.publish(*(("bad", n) for n in range(3)), partition=0)
    async with memory.running(shop.consumer):
        crashed = memory.crash_at(at)
        await memory.until(lambda: crashed)
        assert await memory.fence.keys() == {(memory.topic, b"bad")}
        memory.harness.join()
        letters = await memory.buried(3)
        assert story(letters)[-3:] == PARKED
        shop.broken.clear()
        await memory.redrive()
        await memory.until(lambda: shop.of("bad")[-1:] == [2])
    assert list(dict.fromkeys(shop.of("bad"))) == [0, 1, 2]


@on_desk
async def test_a_parked_key_waits_while_its_dead_letters_cannot_be_written(desk):
    shop = Shop(desk, {0})
    desk.withheld.add(desk.dlq)
    await desk.publish(("bad", 0), ("bad", 1), ("good", 0), partition=0)
    async with desk.running(shop.consumer):
        await desk.until(lambda: shop.of("good") and shop.failed)
        await desk.create(desk.dlq)
        assert story(await desk.buried(2)) == PARKED[:2]
    assert shop.of("bad") == []
