"""Retry topics: each attempt after the first comes from a topic with a delay, and nobody waits for it meanwhile."""

import pytest
from tests.contract.desk import Ticked, body, envelope, on_desk

from eventing import Consumer, Event, Permanent, Retries, retry_topic
from eventing.clock import monotonic, wall
from eventing.errors import Misconfigured
from eventing.retry_topic import topic_of


def tiered(desk, *factors):
    tiers = tuple(desk.tier * factor for factor in factors)
    return desk.consumer(retries=None, ordering="none", tiers=tiers), [
        topic_of(desk.topic, desk.group, tier) for tier in tiers
    ]


def failing(consumer, attempts):
    @consumer.on(Ticked)
    async def handle(tick: Ticked, event: Event) -> None:
        attempts.append((tick.n, event.attempt, monotonic(), event.id))
        if tick.n < 0:
            raise ValueError("a bug of ours")


@on_desk
async def test_each_attempt_comes_from_its_tier_when_it_is_due_and_others_overtake(desk):
    consumer, topics = tiered(desk, 1, 2)
    attempts = []
    failing(consumer, attempts)
    await desk.publish(("k", -1), ("k", 1), partition=0)
    async with desk.running(consumer):
        [letter] = await desk.buried(1, 60)
    assert {n for n, *_ in attempts[:2]} == {-1, 1}, "the next one does not wait"
    mine = [attempt for attempt in attempts if attempt[0] == -1]
    assert [attempt for _, attempt, *_ in mine] == [1, 2, 3]
    (_, _, first, _), (_, _, second, _), (_, _, third, _) = mine
    assert second - first >= desk.tier * 0.99
    assert third - second >= desk.tier * 1.99
    assert [len(await desk.records(topic)) for topic in topics] == [1, 1]
    assert (letter.disposition, letter.known["x-attempt"]) == ("exhausted", "3")
    known = letter.known
    assert (known["x-origin-topic"], known["x-origin-partition"], known["x-origin-offset"]) == (desk.topic, "0", "0")
    assert known["x-first-failed-at"] < known["x-last-failed-at"]
    assert letter.record.value == (await desk.records(desk.topic))[0].value


@on_desk
async def test_a_record_without_an_id_keeps_the_one_derived_from_its_first_place(desk):
    consumer, _ = tiered(desk, 1)
    attempts = []
    failing(consumer, attempts)
    await desk.send(body("k", -1), key=b"k", partition=1)
    async with desk.running(consumer):
        [letter] = await desk.buried(1, 60)
    assert {event_id for *_, event_id in attempts} == {f"{desk.topic}-1-0"}
    assert letter.known["ce_id"] == f"{desk.topic}-1-0"


@on_desk
async def test_a_waiting_retry_survives_a_restart(desk):
    first, topics = tiered(desk, 1)
    second, _ = tiered(desk, 1)
    before, after = [], []
    failing(first, before)
    failing(second, after)
    await desk.publish(("k", -1))
    async with desk.running(first):
        await desk.until(lambda: before)

        async def written():
            return await desk.records(topics[0])

        await desk.until(written)
    async with desk.running(second):
        [letter] = await desk.buried(1, 60)
    assert [attempt for _, attempt, *_ in before + after] == [1, 2]
    assert after[0][2] - before[0][2] >= desk.tier * 0.99
    assert letter.known["x-attempt"] == "2"


@on_desk
async def test_an_event_that_can_never_work_is_not_tried_from_the_tiers(desk):
    consumer, topics = tiered(desk, 1)

    @consumer.on(Ticked)
    async def handle(tick: Ticked) -> None:
        raise Permanent("never")

    await desk.publish(("k", 1))
    async with desk.running(consumer):
        [letter] = await desk.buried(1)
    assert letter.known["x-attempt"] == "1"
    assert await desk.records(topics[0]) == []


@on_desk
async def test_a_retry_that_asks_for_years_waits_for_the_longest_delay_and_holds_nobody_up_longer(desk, monkeypatch):
    monkeypatch.setattr(retry_topic, "SLACK", 0.0)
    consumer, topics = tiered(desk, 1, 2)
    attempts = []
    failing(consumer, attempts)
    known = {"x-origin-topic": desk.topic, "x-origin-partition": "0", "x-origin-offset": "0", "x-attempt": "1"}
    async with desk.running(consumer):
        written = monotonic()
        for n, due in (1, "2999-01-01T00:00:00+00:00"), (2, "2020-01-01T00:00:00+00:00"):
            told = [(name, value.encode()) for name, value in (known | {"x-not-before": due}).items()]
            await desk.send(body("k", n), key=b"k", headers=[*envelope("k", n), *told], partition=0, topic=topics[0])
        await desk.until(lambda: len(attempts) == 2, 60)
    waited = {n: at - written for n, _, at, _ in attempts}
    assert 1.9 * desk.tier <= waited[1] < 6 * desk.tier
    assert {attempt for _, attempt, *_ in attempts} == {2}


@on_desk
async def test_a_batch_waits_for_what_is_not_due(desk):
    consumer, _ = tiered(desk, 1)
    calls = []

    @consumer.on_batch(Ticked)
    async def handle(ticks: list[Ticked], events: list[Event]) -> None:
        calls.append((monotonic(), wall(), [event.attempt for event in events]))
        raise ValueError("a bug of ours")

    await desk.publish(("k", 1))
    async with desk.running(consumer):
        [letter] = await desk.buried(1, 60)
    (first, *_), (second, *_) = calls
    assert second - first >= desk.tier * 0.99
    assert letter.known["x-attempt"] == "2"


@on_desk
async def test_a_missing_retry_topic_holds_the_event_and_is_named(desk):
    consumer, topics = tiered(desk, 1)
    attempts = []
    failing(consumer, attempts)
    desk.withheld |= {*topics}
    await desk.publish(("k", -1), ("k", 1), partition=0)
    async with desk.running(consumer) as runtime:
        await desk.until(lambda: len(attempts) == 2)
        with pytest.raises(Exception, match=f"{topics[0]} does not exist"):
            await runtime.check_group()
        await desk.create(*topics)
        await desk.buried(1, 60)
    assert {attempt for n, attempt, *_ in attempts if n < 0} == {1, 2}


REFUSED = [
    ({"tiers": (10,)}, "ordering='none' or no tiers"),
    ({"ordering": "none", "exhausted": "park_key"}, "no key to park_key"),
    ({"ordering": "none", "exhausted": "block"}, "no key to block"),
    ({"ordering": "none", "tiers": (10,), "retries": Retries()}, "leave out retries"),
    ({"ordering": "none", "tiers": (0,)}, "from 1"),
    ({"ordering": "none", "tiers": (10, 10)}, "each longer than the one before"),
    ({"ordering": "partition"}, "choose one of key, none"),
    ({"exhausted": "panic"}, "choose one of skip, block, park_key"),
    ({"group": "a/b"}, "use letters, digits"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_choices_that_contradict_each_other_are_refused_with_the_remedy(options, words):
    with pytest.raises(Misconfigured, match=words):
        Consumer(**{"group": "g"} | options)
