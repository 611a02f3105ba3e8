"""The real parts, each started once per session when the first test asks for it.

What a machine cannot run is skipped with its reason, unless it is required.
"""

import os
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from workbench.broker import Broker
from workbench.deadline import NotReadyError
from workbench.home import Home
from workbench.mailbox import Mailbox
from workbench.postgres import Postgres
from workbench.spans import SpanReceiver
from workbench.valkey import Valkey


def pytest_addoption(parser):
    parser.addoption("--require", default="", help="comma-separated parts that must be there: kafka, cluster")
    parser.addoption("--chaos-minutes", type=float, default=0, help="how long the chaos runs; half a minute without")
    parser.addoption("--chaos-seed", type=int, help="repeat the chaos run of this seed")
    parser.addoption("--schedules", type=int, default=10_000, help="schedules of the simulation that are run")
    parser.addoption("--schedule-seed", type=int, default=0, help="seed of the first of them")


def pytest_collection_modifyitems(config, items):
    """Give a chaos run the time it is asked to take."""
    minutes = config.getoption("--chaos-minutes")
    for item in items if minutes else ():
        if item.path.name in ("test_chaos.py", "test_relay_chaos.py"):
            item.add_marker(pytest.mark.timeout(minutes * 60 + 600))


@pytest.fixture(scope="session")
def lacking(request):
    """Skip a test whose part is not to be had here; fail it when the part is required."""
    required = {*request.config.getoption("--require").split(","), *os.environ.get("EVENKEEL_REQUIRE", "").split(",")}

    def lacking(part, reason):
        if part in required:
            pytest.fail(f"{part} is required and cannot be had: {reason}", pytrace=False)
        pytest.skip(f"{part}: {reason}")

    return lacking


@pytest.fixture(scope="module")
def say(request):
    """Say something to who runs the tests, whatever comes of them."""
    return request.config.pluginmanager.get_plugin("terminalreporter").write_line


@pytest.fixture(scope="module")
def seed(request, say):
    """Draw the dice of a chaos run, and tell how to draw them again."""
    chosen = request.config.getoption("--chaos-seed")
    chosen = random.randrange(1 << 32) if chosen is None else chosen
    say(f"chaos: repeat with --chaos-seed {chosen}")
    return chosen


@pytest.fixture(scope="session")
async def home() -> AsyncIterator[Home]:
    async with Home.open() as home:
        yield home


@pytest.fixture(scope="session")
async def broker(home: Home, lacking: Callable[[str, str], None]) -> Broker:
    try:
        return await Broker.start(home)
    except NotReadyError as error:
        lacking("kafka", str(error))
        raise


@pytest.fixture(scope="session")
async def postgres(home: Home) -> Postgres:
    return await Postgres.start(home)


@pytest.fixture(scope="session")
async def valkey(home: Home) -> Valkey:
    return await Valkey.start(home)


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    mailbox = await Mailbox.start()
    yield mailbox
    await mailbox.stop()


@pytest.fixture
async def spans() -> AsyncIterator[SpanReceiver]:
    receiver = await SpanReceiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture
def topic_name() -> Callable[[str], str]:
    """Give a topic a name that no other test uses, by its stem."""
    return lambda stem: f"{stem}-{secrets.token_hex(4)}"


@pytest.fixture
def database(postgres: Postgres) -> Callable[[], Awaitable[str]]:
    """Create an empty database that no other test uses, and return its address."""
    return lambda: postgres.create_database(f"test-{secrets.token_hex(4)}")
