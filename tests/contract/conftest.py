"""The two worlds of the contract tests."""

import asyncio
import secrets

import pytest
from tests.contract.desk import MemoryDesk, Ticked, Tocked
from tests.contract.kafka_desk import KafkaDesk

from eventing import commit, outcome, parking, settle
from eventing.migrate import migrate

WAITS = (  # real seconds here, and most tests wait for one of them
    (commit, "EVERY", 0.2),
    (parking, "EVERY", 0.2),
    (settle, "WRITE_BACKOFF", (0.2, 60.0)),
    (outcome, "BLOCKED_AT_LEAST", 0.2),
)


@pytest.fixture(scope="session")
async def session_loop():
    """Return the loop on which the real parts live."""
    return asyncio.get_running_loop()


@pytest.fixture(scope="session")
async def migrated(postgres):
    """Return the address of a database with the library's tables, for all tests: rows name their group."""
    url = await postgres.create_database(f"contract-{secrets.token_hex(4)}")
    await migrate(url)
    return url


@pytest.fixture
def topics(topic_name, monkeypatch):
    names = topic_name("ticks"), topic_name("tocks")
    for contract, name in zip((Ticked, Tocked), names, strict=True):
        monkeypatch.setattr(contract, "event_topic", name)
    return names


@pytest.fixture
def kafka(topics, broker, migrated, session_loop, monkeypatch):
    for module, name, seconds in WAITS:
        monkeypatch.setattr(module, name, seconds)
    return KafkaDesk(*topics, broker.bootstrap, migrated, session_loop)


@pytest.fixture
def memory(topics):
    return MemoryDesk(*topics)


@pytest.fixture(params=["memory", "kafka"])
def desk(request):
    return request.getfixturevalue(request.param)
