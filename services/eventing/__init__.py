"""Evenkeel's library: contracts, outbox, relay, consumer, dead letters, redrive."""

from eventing.consumer import STALE, Consumer
from eventing.contract import Contract
from eventing.database import Database, Transaction
from eventing.errors import Overload, Permanent, Temporary
from eventing.event import Event
from eventing.outcome import Retries

__all__ = [
    "STALE",
    "Consumer",
    "Contract",
    "Database",
    "Event",
    "Overload",
    "Permanent",
    "Retries",
    "Temporary",
    "Transaction",
]
