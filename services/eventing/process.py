"""A process from start to stop: settings, logs, traces, probes, work; then not ready, drain, exit."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import structlog

from eventing import logs, schema, tracing
from eventing.consumer import Consumer
from eventing.database import Database
from eventing.errors import Unavailable
from eventing.health import Health, probes, serving
from eventing.producer import Producer
from eventing.provide import provide
from eventing.relay import Relay
from eventing.relay_gauges import watch
from eventing.runtime import Runtime
from eventing.settings import settings

log = structlog.get_logger()

THREADS_END = 0.5  # seconds that threads have to end once all else has

Work = Callable[[Health], Awaitable[None]]


def run(work: Work) -> int:
    """Run a process's work until SIGTERM or Ctrl-C; returns the exit code.

    `work` returns soon after `health.stopping` is set. What has not ended `EVENTING_SHUTDOWN_TIMEOUT` seconds
    after the signal is cut, and the exit code is 1. So is a thread of a handler that does not return.
    """
    logs.configure()
    traces = tracing.configure()
    code, failed = 1, None
    try:
        code = asyncio.run(_main(work))
    except Exception as error:  # raised again, unless nothing but an exit at once can end the process
        failed = error
    finally:
        traces.shutdown()
    _abandon_threads(code, failed)
    if failed is not None:
        raise failed
    return code


def _abandon_threads(code: int, failed: Exception | None) -> None:
    """Exit at once if a thread does not end: the interpreter would wait for it until SIGKILL."""
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon]
    until = time.monotonic() + THREADS_END
    for thread in others:
        thread.join(max(until - time.monotonic(), 0))
    if stuck := [thread.name for thread in others if thread.is_alive()]:
        log.error("threads_abandoned", threads=stuck, exc_info=failed)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


async def _main(work: Work) -> int:
    health = Health()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, health.stopping.set)
    task = asyncio.ensure_future(work(health))
    stopping = asyncio.ensure_future(health.stopping.wait())
    await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    limit = settings().shutdown_timeout
    await asyncio.wait([task], timeout=limit if health.stopping.is_set() else None)
    if not task.done():
        log.error("shutdown_cut", after_seconds=limit)
        task.cancel()
        await asyncio.wait([task], timeout=1.0)
        return 1
    task.result()
    return 0


async def relay(health: Health) -> None:
    """Relay the outbox of EVENTING_DATABASE_URL to Kafka."""
    config = settings()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.of(config))
        producer = await stack.enter_async_context(Producer(config, linger=0.002))
        health.add("database", database.check)
        health.add("kafka", producer.check)
        port = await stack.enter_async_context(serving(probes(health), config))
        log.info("relay_started", port=port)
        await known_schema(database, health.stopping)
        work = Relay(
            database,
            producer,
            lease=config.relay_lease,
            batch=config.relay_batch,
            poll_max=config.relay_poll_max,
        )
        health.add("relay", work.check)
        gauges = asyncio.create_task(watch(database))
        try:
            await work.run(health.stopping)
        finally:
            gauges.cancel()
            await asyncio.wait([gauges])


async def consume(consumer: Consumer, health: Health) -> None:
    """Run the handlers of one consumer group."""
    config = settings()
    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(Producer(config))
        provided = await stack.enter_async_context(provide(consumer, config))
        if database := provided.get(Database):
            health.add("database", database.check)
        runtime = Runtime(consumer, config, producer, provided)
        health.add("group", runtime.check_group)  # before anybody can ask: it is not ready before it has joined
        health.add("handlers", runtime.check_handlers, required=False)
        health.watch(runtime.alive)
        port = await stack.enter_async_context(serving(probes(health), config))
        log.info("consumer_started", group=consumer.group, topics=consumer.topics, port=port)
        if database:
            await known_schema(database, health.stopping)
        await runtime.run(health.stopping)


async def serve(app: Any, health: Health) -> None:
    """Serve an application built by `eventing.http.application`."""
    app.state.health = health
    async with serving(app, settings()) as port:
        log.info("api_started", port=port)
        await health.stopping.wait()


async def known_schema(database: Database, stopping: asyncio.Event) -> None:
    """Wait for the database, then refuse tables of another version.

    Raises:
        UnknownSchema: the tables are not those of this code.
    """
    while not stopping.is_set():
        try:
            await schema.check(database)
            return
        except (Unavailable, TimeoutError) as error:
            log.warning("database_awaited", error=str(error))
            await asyncio.sleep(1.0)
