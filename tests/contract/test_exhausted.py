"""What becomes of an event that is given up: skipped, or waited for."""

import json

from tests.contract.desk import Ticked, on_desk

from eventing import Event, Permanent


@on_desk
async def test_a_skipped_event_is_dead_lettered_as_it_came_and_the_next_one_flows(desk):
    consumer, attempts, seen = desk.consumer(), [], []

    @consumer.on(Ticked)
    async def handle(tick: Ticked, event: Event) -> None:
        if tick.n == 1:
            attempts.append(event.attempt)
            raise ValueError("a bug of ours")
        seen.append(tick.n)

    await desk.publish(("k", 1), ("k", 2))
    async with desk.running(consumer):
        await desk.until(lambda: seen == [2])
    [letter] = await desk.letters()
    source = next(r for r in await desk.records(desk.topic) if b'"n": 1' in r.value)
    assert attempts == [1, 2, 3]
    assert (letter.record.key, letter.record.value) == (source.key, source.value)
    assert letter.record.partition == source.partition
    assert set(source.headers) <= set(letter.record.headers)
    known = letter.known
    assert (known["x-disposition"], known["x-attempt"], known["x-error-type"]) == ("exhausted", "3", "ValueError")
    assert "a bug of ours" in known["x-error-message"]
    assert "test_exhausted.py" in known["x-error-stack"]
    assert (known["x-origin-topic"], known["x-origin-offset"]) == (desk.topic, str(source.offset))


@on_desk
async def test_a_blocking_event_holds_its_key_until_it_works_and_no_other(desk):
    consumer, attempts, seen, broken = desk.consumer(exhausted="block"), [], [], [True]

    @consumer.on(Ticked)
    async def handle(tick: Ticked, event: Event) -> None:
        if (tick.key, tick.n) == ("bad", 1) and broken:
            attempts.append(event.attempt)
            raise Permanent("not yet repaired")
        seen.append((tick.key, tick.n))

    await desk.publish(("bad", 1), ("bad", 2), ("good", 1), partition=0)
    await desk.publish(("good", 2), partition=1)
    async with desk.running(consumer) as runtime:
        await desk.until(lambda: len(attempts) >= 3 and len(seen) == 2)
        assert {key for key, _ in seen} == {"good"}
        await desk.until(lambda: runtime.lanes.partitions[desk.topic, 1].committed == 1)
        assert runtime.lanes.partitions[desk.topic, 0].committed == 0
        assert runtime.alive() is None
        broken.clear()
        await desk.until(lambda: len(seen) == 4)
    assert seen[2:] == [("bad", 1), ("bad", 2)]
    assert attempts == list(range(1, len(attempts) + 1))
    assert await desk.letters() == []
    await desk.done(4)


@on_desk
async def test_a_redriven_event_reaches_its_group_once_and_no_letter_is_sent_twice(desk):
    consumer, seen, broken = desk.consumer(), [], [True]

    @consumer.on(Ticked)
    async def handle(tick: Ticked, event: Event) -> None:
        if broken:
            raise Permanent("not yet repaired")
        seen.append((tick.n, event.redrives, event.topic, event.offset))

    await desk.publish(("k", 0), ("k", 1), partition=0)
    async with desk.running(consumer):
        await desk.buried(2)
        broken.clear()
        await desk.redrive()
        await desk.until(lambda: len(seen) == 2)
        await desk.redrive()
        await desk.publish(("k", 2), partition=0)
        await desk.until(lambda: len(seen) == 3)
    assert seen == [(0, 1, desk.topic, 0), (1, 1, desk.topic, 1), (2, 0, desk.topic, 2)]
    assert [json.loads(r.value)["n"] for r in await desk.records(desk.back)] == [0, 1]
