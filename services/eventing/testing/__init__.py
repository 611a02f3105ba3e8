"""Test consumers without a broker: redelivery, retries, rebalances, crashes and dead letters, in virtual time.

The consumer runs in the shipped runtime; what stands in is the broker behind its client port. Handlers that take a
`Transaction` need a real database: provide one, and use an ordinary event loop.
"""

from eventing.testing.broker import Broker, Fault, MemoryRecord
from eventing.testing.faults import Faults, Trouble
from eventing.testing.harness import Harness, Letter, Member
from eventing.testing.loop import StandstillError, VirtualLoop, run, virtual_time

__all__ = [
    "Broker",
    "Fault",
    "Faults",
    "Harness",
    "Letter",
    "Member",
    "MemoryRecord",
    "StandstillError",
    "Trouble",
    "VirtualLoop",
    "run",
    "virtual_time",
]
