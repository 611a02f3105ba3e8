"""What Kafka's log may do to a consumer: gaps, expired records, offsets beyond the end, topics that come later."""

import asyncio

from tests.contract.desk import Ticked, body, envelope, on_desk

from eventing.errors import Unavailable
from eventing.metrics import LOST_RANGE


def seeing(consumer):
    seen = []

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        seen.append(tick.n)

    return seen


def lost(desk):
    return LOST_RANGE.labels(desk.topic, desk.group)._value.get()


@on_desk
async def test_a_header_that_is_not_text_ends_in_a_dead_letter_and_the_next_event_flows(desk):
    consumer = desk.consumer()
    seen = seeing(consumer)
    await desk.send(body("k", 1), key=b"k", headers=[*envelope("k", 1), ("note", b"\xff\xfe")])
    await desk.publish(("k", 2))
    async with desk.running(consumer):
        [letter] = await desk.buried(1)
        await desk.until(lambda: seen == [2])
    assert letter.disposition == "undecodable"
    assert "note is not UTF-8" in letter.known["x-error-message"]
    assert ("note", b"\xff\xfe") in letter.record.headers


@on_desk
async def test_a_type_that_no_contract_describes_is_kept(desk):
    consumer = desk.consumer()
    seen = seeing(consumer)
    await desk.publish(("k", 1), action="exploded")
    await desk.publish(("k", 2))
    async with desk.running(consumer):
        [letter] = await desk.buried(1)
        await desk.until(lambda: seen == [2])
    assert letter.disposition == "unknown-type"


@on_desk
async def test_records_that_expired_while_nobody_read_are_counted_as_lost(desk):
    first, second = desk.consumer(), desk.consumer()
    before, after = seeing(first), seeing(second)
    await desk.publish(*(("k", n) for n in range(4)), partition=0)
    async with desk.running(first):
        await desk.done(4)
    await desk.publish(*(("k", n) for n in range(4, 10)), partition=0)
    await desk.expire(0, 7)
    async with desk.running(second):
        await desk.until(lambda: after == [7, 8, 9])
    assert before == [0, 1, 2, 3]
    assert lost(desk) == 3


@on_desk
async def test_records_that_expire_under_a_reader_are_counted_as_lost(desk):
    consumer = desk.consumer(exhausted="block")
    seen = seeing(consumer)
    await desk.publish(*(("k", n) for n in range(4)), partition=0)
    async with desk.running(consumer, consumer_max_records=2) as runtime:
        await desk.done(4)
        runtime.lanes.hold((desk.topic, 0), float("inf"))  # it reads nothing meanwhile
        await desk.publish(*(("k", n) for n in range(4, 10)), partition=0)
        await desk.expire(0, 8)
        runtime.lanes.hold((desk.topic, 0), 0.0)
        await desk.until(lambda: seen[-2:] == [8, 9])
    assert lost(desk) >= 10 - len(seen)  # on Kafka some of them may have been fetched before
    assert seen == sorted(set(seen))


@on_desk
async def test_an_offset_beyond_the_end_is_set_back_to_it(desk):
    consumer = desk.consumer()
    seen = seeing(consumer)
    await desk.publish(("k", 0), partition=0)
    await desk.pretend_committed(100)
    async with desk.running(consumer) as runtime:
        await desk.until(lambda: (desk.topic, 0) in runtime.lanes.partitions)
        await desk.publish(("k", 1), partition=0)
        await desk.until(lambda: seen == [1])
        await desk.until(lambda: ready(runtime))


async def ready(runtime):
    try:
        await runtime.check_group()
    except Unavailable:
        return False
    return True


@on_desk
async def test_a_topic_that_appears_later_is_read(desk):
    consumer = desk.consumer()
    seen = seeing(consumer)
    desk.withheld.add(desk.topic)
    async with desk.running(consumer) as runtime:
        await desk.until(lambda: runtime.state in {"consuming", "no partitions are left for this member"})
        await desk.create(desk.topic)
        await desk.publish(("k", 1))
        await desk.until(lambda: seen == [1], 45)


@on_desk
async def test_offsets_without_records_stall_nobody(desk):
    consumer = desk.consumer()
    seen = seeing(consumer)
    await desk.publish(("k", 0), partition=0)
    await desk.gap(0)
    await desk.publish(("k", 1), partition=0)
    await desk.gap(0)
    async with desk.running(consumer):
        await desk.until(lambda: seen == [0, 1])
        ends = await desk.ends()
        await desk.done(ends)
    assert ends > 2


@on_desk
async def test_memory_is_bounded_while_a_handler_stalls(desk):
    consumer, go = desk.consumer(), asyncio.Event()

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        await go.wait()

    await desk.publish(*((f"k{n}", n) for n in range(300)))
    async with desk.running(consumer, consumer_max_records=50) as runtime:
        await desk.until(lambda: runtime.lanes.records >= 50)
        await asyncio.sleep(0.5)  # several polls
        assert runtime.lanes.records <= 50
        go.set()
        await desk.done(300)
