"""The dead letter: what it keeps, and what happens while it cannot be written."""

import pytest
from tests.contract.desk import Ticked, body, envelope, on_desk

from eventing import Permanent
from eventing import runtime as shipped
from eventing.errors import Unavailable

ODD = [("same", b"1"), ("same", b"2"), ("empty", b""), ("bytes", b"\xff\xfe"), ("x-note", b"theirs")]


def failing(consumer, seen):
    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        if tick.n < 0:
            raise Permanent("never")
        seen.append((tick.key, tick.n))


def failing_deep(consumer):
    """Fail with as much to tell as an error can have."""

    def here(n):
        there(n - 1)

    def there(n):
        if n > 0:
            here(n - 1)
        raise Permanent("w\u00f6rds" * 10_000) from ValueError("cause" * 10_000)

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        here(100)


@pytest.mark.parametrize("value", [b"{", b"", b"\xff\x00", b'{"key": "k"}'], ids=["broken", "empty", "bytes", "bare"])
@on_desk
async def test_what_cannot_be_read_is_kept_byte_for_byte(desk, value):
    consumer, seen = desk.consumer(), []
    failing(consumer, seen)
    await desk.send(value, key=b"\x00k\xff", headers=ODD, partition=1)
    await desk.publish(("k", 1), partition=1)
    async with desk.running(consumer):
        [letter] = await desk.buried(1)
        await desk.until(lambda: seen == [("k", 1)])
    assert (letter.record.key, letter.record.value) == (b"\x00k\xff", value)
    assert letter.record.partition == 1
    assert [pair for pair in letter.record.headers if pair in ODD] == ODD
    assert letter.disposition == "undecodable"


@on_desk
async def test_a_null_value_and_a_null_key_stay_null(desk):
    consumer = desk.consumer()
    failing(consumer, [])
    await desk.send(None, key=b"k", headers=ODD, partition=0)
    await desk.send(b"{", key=None, partition=0)
    async with desk.running(consumer):
        letters = await desk.buried(2)
    found = {(letter.record.key, letter.record.value) for letter in letters}
    assert found == {(b"k", None), (None, b"{")}
    assert {letter.disposition for letter in letters} == {"undecodable"}


@on_desk
async def test_headers_of_ours_are_replaced_not_repeated_however_often_it_comes_back(desk):
    consumer = desk.consumer()
    failing(consumer, [])
    await desk.publish(("k", -1), partition=0)
    async with desk.running(consumer):
        for times in range(1, 4):
            letters = await desk.buried(times)
            await desk.redrive()
        letters = await desk.buried(4)
    for times, letter in enumerate(letters):
        names = [name for name, _ in letter.record.headers]
        assert len(names) == len({*names})
        assert letter.known.get("x-redrive-count", "0") == str(times)
    assert len({letter.known["x-dlq-id"] for letter in letters}) == 1
    assert {(letter.known["x-origin-topic"], letter.known["x-origin-offset"]) for letter in letters} == {
        (desk.topic, "0")
    }


@on_desk
async def test_without_its_dead_letter_topic_a_record_holds_its_key_and_no_other(desk, monkeypatch):
    monkeypatch.setattr(shipped, "DLQ_PATIENCE", desk.patience)
    consumer, seen = desk.consumer(), []
    failing(consumer, seen)
    desk.withheld.add(desk.dlq)
    await desk.publish(("bad", -1), ("bad", 2), ("good", 1), partition=0)
    await desk.publish(("good", 2), partition=1)
    async with desk.running(consumer) as runtime:
        await desk.until(lambda: len(seen) == 2)
        await desk.until(lambda: runtime.lanes.partitions[desk.topic, 1].committed == 1)
        await desk.until(lambda: complains(runtime, "dead letters have not been written"), 90)
        with pytest.raises(Unavailable, match=f"topic {desk.dlq} does not exist; create it"):
            await runtime.check_group()
        assert runtime.alive() is None
        assert runtime.lanes.partitions[desk.topic, 0].committed == 0
        assert {*seen} == {("good", 1), ("good", 2)}
        await desk.create(desk.dlq)
        [letter] = await desk.buried(1, 90)
        await desk.until(lambda: len(seen) == 3)
        await runtime.check_handlers()
        await runtime.check_group()
    assert letter.record.key == b"bad"
    assert seen[2] == ("bad", 2)
    await desk.done(4)


async def complains(runtime, words):
    try:
        await runtime.check_handlers()
    except Unavailable as error:
        return words in str(error)
    return False


@on_desk
async def test_what_was_given_up_but_not_written_is_not_handled_again_meanwhile(desk):
    consumer, calls = desk.consumer(), []

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        calls.append(tick.n)
        raise Permanent("never")

    desk.withheld.add(desk.dlq)
    await desk.publish(("bad", 1))
    async with desk.running(consumer) as runtime:
        await desk.until(lambda: runtime.settlement.unwritten_since is not None and runtime.lanes.resting)
        await desk.create(desk.dlq)
        await desk.buried(1)
    assert calls == [1]


async def letter_within(desk, limit, size):
    """Dead-letter an event of some bytes into a topic that takes records up to `limit`."""
    consumer = desk.consumer()
    failing_deep(consumer)
    await desk.limit(desk.dlq, limit)
    value = body("k", -1)[:-1] + b', "filler": "' + b"x" * size + b'"}'
    await desk.send(value, key=b"k", headers=envelope("k", -1), partition=0)
    async with desk.running(consumer):
        [letter] = await desk.buried(1)
    assert letter.known["x-origin-offset"] == "0"
    return value, letter


@on_desk
async def test_a_letter_that_is_too_large_loses_its_stack_first(desk):
    value, letter = await letter_within(desk, 7000, 2500)
    assert (letter.record.key, letter.record.value) == (b"k", value)
    assert letter.known["x-error-stack"] == ""
    assert letter.disposition == "permanent"


@on_desk
async def test_a_letter_that_is_still_too_large_becomes_a_pointer_to_its_record(desk):
    _, letter = await letter_within(desk, 7000, 8000)
    assert (letter.record.key, letter.record.value) == (b"k", b"")
    assert letter.disposition == "permanent,pointer-only"


@on_desk
async def test_what_a_letter_adds_is_bounded(desk):
    consumer = desk.consumer()
    failing_deep(consumer)
    await desk.publish(("k", 1))
    async with desk.running(consumer):
        [letter] = await desk.buried(1)
    theirs = {name for name, _ in envelope("k", 1)}
    added = sum(len(name) + len(value) for name, value in letter.record.headers if name not in theirs)
    assert added <= 8 * 1024
