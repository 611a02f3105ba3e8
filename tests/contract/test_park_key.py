"""`park_key`: later events of a key follow the one that was given up, until a redrive brings them back in order."""

import asyncio

import pytest
from tests.contract.desk import Ticked, on_desk

from eventing import Event, Permanent


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
        await desk.until(lambda: shop.failed and runtime.settlement.unwritten_since)
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
