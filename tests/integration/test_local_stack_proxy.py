"""A proxy gives one client a network of its own, which can be cut, stalled and healed."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from workbench.broker import Broker
from workbench.proxy import Proxy


@pytest.fixture
async def echo():
    """A server behind a proxy, which sends back what it gets."""

    async def answer(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    proxy = await Proxy.start()
    server = await asyncio.start_server(answer, "127.0.0.1", proxy.target)
    yield proxy
    await proxy.cut()
    server.close()


@asynccontextmanager
async def connected(proxy):
    """Connect; yields how to say a line and hear the answer, b"" when the connection is gone."""
    reader, writer = await asyncio.open_connection(*proxy.address.split(":"))

    async def say(line, seconds=5):
        writer.write(line)
        try:
            return await asyncio.wait_for(reader.readline(), seconds)
        except ConnectionError:
            return b""

    yield say
    writer.transport.abort()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_what_goes_in_comes_out(echo):
    async with connected(echo) as say:
        assert await say(b"hello\n") == b"hello\n"


async def test_a_stall_holds_back_what_healing_lets_through(echo):
    async with connected(echo) as say:
        echo.stall()
        with pytest.raises(TimeoutError):
            await say(b"held\n", 0.2)
        await echo.heal()
        assert await say(b"") == b"held\n"


async def test_a_cut_drops_connections_and_refuses_new_ones_until_it_is_healed(echo):
    async with connected(echo) as say:
        assert await say(b"hello\n") == b"hello\n"
        await echo.cut()
        assert await say(b"hello\n") == b""
    with pytest.raises(ConnectionRefusedError):
        await connected(echo).__aenter__()
    await echo.heal()
    async with connected(echo) as say:
        assert await say(b"again\n") == b"again\n"


async def test_a_part_that_is_down_closes_the_connection():
    proxy = await Proxy.start()
    async with connected(proxy) as say:
        assert await say(b"hello\n") == b""
    await proxy.cut()


async def test_a_client_behind_a_proxy_stays_behind_it_and_others_are_not_touched(home, broker):
    proxy = await Proxy.start()
    home.on_close(proxy.cut)
    own = await Broker.start(home, name="kafka-proxied", proxies=[proxy])
    inside = AIOKafkaConsumer(bootstrap_servers=proxy.address, request_timeout_ms=2000)
    outside = AIOKafkaConsumer(bootstrap_servers=own.bootstrap)
    async with inside, outside:
        for client in (inside, outside):
            await client.topics()
        await proxy.cut()
        await outside.topics()
        with pytest.raises(KafkaError):
            await inside.end_offsets([TopicPartition("__consumer_offsets", 0)])
        await proxy.heal()
        assert "__consumer_offsets" not in await inside.topics()
    await own.stop()
