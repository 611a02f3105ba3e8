"""aiokafka's producer alone, fed from the outbox's rows: no lease, no order over refusals, nothing deleted."""

import asyncio
import json
import sys
import time
from pathlib import Path

import asyncpg
from aiokafka import AIOKafkaProducer

from eventing.outbox_row import record_headers
from eventing.sql import load

_SQL = load("workbench.bench", "relay")


async def main(url: str, bootstrap: str, result: Path) -> None:
    """Send every row and write the seconds it took."""
    connection = await asyncpg.connect(url)
    settings = {"acks": "all", "enable_idempotence": True, "linger_ms": 2, "max_batch_size": 256 * 1024}
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, **settings) as producer:
        began = time.perf_counter()
        await _all(connection, producer)
        seconds = time.perf_counter() - began
    await connection.close()
    draft = result.with_suffix(".draft")
    draft.write_text(json.dumps({"seconds": seconds}))
    draft.rename(result)


async def _all(connection: asyncpg.Connection, producer: AIOKafkaProducer) -> None:
    last = 0
    while rows := await connection.fetch(_SQL["page"], last):
        last = rows[-1]["seq"]
        sends = [
            await producer.send(
                row["topic"], row["payload"], key=row["aggregateid"].encode(), headers=record_headers(row)
            )
            for row in rows
        ]
        await asyncio.gather(*sends)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
