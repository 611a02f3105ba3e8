"""The first test of a service author: five lines, no broker, no waiting."""

from eventing import Consumer, Contract, Temporary
from eventing.testing import Harness, virtual_time


class OrderPlaced(Contract, type="test.order.placed.v1", topic="orders", key="order_id"):
    order_id: str
    action: str = "placed"


class Stock:
    """A warehouse that is busy at first."""

    def __init__(self, busy):
        self.busy, self.reserved = busy, []

    async def reserve(self, order_id):
        if self.busy:
            self.busy -= 1
            raise Temporary("the warehouse is busy")
        self.reserved.append(order_id)


consumer = Consumer("billing")


@consumer.on(OrderPlaced)
async def reserve(order: OrderPlaced, stock: Stock) -> None:
    await stock.reserve(order.order_id)


@virtual_time
async def test_a_busy_warehouse_is_asked_again():
    async with Harness(consumer, provide={Stock: (stock := Stock(busy=2))}) as harness:
        await harness.publish(OrderPlaced(order_id="7"))
        await harness.settled()
    assert (stock.reserved, harness.dead_letters) == (["7"], [])


@virtual_time
async def test_a_warehouse_that_stays_busy_costs_a_dead_letter_that_comes_back_when_it_is_redriven():
    async with Harness(consumer, provide={Stock: (stock := Stock(busy=5))}) as harness:
        await harness.publish(OrderPlaced(order_id="7"))
        await harness.settled()
        assert [letter.disposition for letter in harness.dead_letters] == ["exhausted"]
        await harness.redrive()
        await harness.settled()
    assert stock.reserved == ["7"]
