"""The event of the benchmarks: about 150 bytes of JSON, validated by every runner."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from eventing import Contract


class Tick(Contract, type="com.evenkeel.bench.tick.v1", topic="ticks", key="account", aggregate="account"):
    """A trade of one account; `number` counts all records of a topic from 0, so it names key and turn."""

    account: Annotated[str, Field(min_length=1, max_length=64)]
    number: Annotated[int, Field(ge=0)]
    symbol: Annotated[str, Field(min_length=1, max_length=12)]
    side: Literal["buy", "sell"]
    quantity: PositiveInt
    price: Annotated[float, Field(gt=0)]
    venue: str
    note: str | None = None


def tick(number: int, keys: int) -> Tick:
    """Return the record `number` of a topic with so many keys, which take turns."""
    return Tick(
        account=account(number % keys),
        number=number,
        symbol="EVKL",
        side="buy" if number % 2 else "sell",
        quantity=1 + number % 97,
        price=101.25,
        venue="XFRA",
        note="limit order, good till cancelled",
    )


def account(key: int) -> str:
    """Return the name of the key with this number."""
    return f"account-{key:05}"
