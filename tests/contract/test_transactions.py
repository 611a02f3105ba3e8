"""One event, one transaction: the inbox row and the effect are there together, or neither is."""

import pytest
from tests.contract.desk import Ticked, on_desk
from tests.contract.ledger import Ledger

from eventing import Consumer, Temporary, Transaction
from eventing.errors import Misconfigured
from eventing.provide import provide
from eventing.settings import Settings


@on_desk
async def test_an_effect_in_the_database_happens_once_per_event(kafka):
    consumer = kafka.consumer()
    async with Ledger(kafka) as ledger:

        @consumer.on(Ticked)
        async def handle(tick: Ticked, tx: Transaction) -> None:
            await ledger.add(tx, [tick])

        await kafka.publish(*(("k", n) for n in range(5)), *(("k", n) for n in range(6)))
        async with kafka.running(consumer):
            await kafka.done(11)
        assert [row["n"] for row in await ledger.rows()] == list(range(6))


@on_desk
async def test_a_failed_handler_leaves_neither_effect_nor_inbox_row(kafka):
    consumer, failed = kafka.consumer(), []
    async with Ledger(kafka) as ledger:

        @consumer.on(Ticked)
        async def handle(tick: Ticked, tx: Transaction) -> None:
            await ledger.add(tx, [tick])
            if not failed:
                failed.append(await ledger.inbox())
                raise Temporary("again")
            failed.append(await ledger.inbox())

        await kafka.publish(("k", 1))
        async with kafka.running(consumer):
            await kafka.done(1)
        assert failed == [0, 0]
        assert (len(await ledger.rows()), await ledger.inbox()) == (1, 1)
    assert await kafka.letters() == []


async def test_a_handler_that_wants_what_nobody_provides_is_refused_at_start():
    consumer = Consumer("g")

    class Thing: ...

    @consumer.on(Ticked)
    async def handle(tick: Ticked, thing: Thing) -> None: ...

    opening = provide(consumer, Settings())
    with pytest.raises(Misconfigured, match="wants a Thing"):
        await opening.__aenter__()


async def test_a_consumer_that_parks_keys_without_a_database_is_refused_at_start():
    opening = provide(Consumer("g", exhausted="park_key"), Settings())
    with pytest.raises(Misconfigured, match="EVENTING_DATABASE_URL is not set"):
        await opening.__aenter__()
