"""Write every event to the audit log, and keep the read models, in one transaction."""

import zlib

from contracts.users import TOPIC, UserDeleted, UserRegistered
from eventing import Consumer, Event, Transaction
from eventing.sql import load

consumer = Consumer(group="analytics", topics=(TOPIC,))

SHARDS = 16  # rows a day is counted in
MEMBERSHIP = {UserRegistered: "registered", UserDeleted: "deleted"}

_SQL = load("analytics", "record")


@consumer.on_any
async def record(event: Event, tx: Transaction) -> None:
    """Record one event; whatever its type, the audit log has it."""
    shard = zlib.crc32(event.key.encode()) % SHARDS
    if event.contract in MEMBERSHIP:
        await tx.execute(_SQL[MEMBERSHIP[event.contract]], shard, event.time, event.key)
    else:
        await tx.execute(_SQL["counted"], shard, event.time)
    await tx.execute(
        _SQL["audit"], event.id, event.type, event.key, event.version, event.time,
        event.topic, event.partition, event.offset, event.data,
    )  # fmt: skip
