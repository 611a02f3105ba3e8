"""`eventing outbox`: blocked keys are seen, repaired in order and skipped, and every step is in the audit."""

import asyncio
import json
import os
import sys

import pytest
from tests.integration.rig import until
from tests.integration.test_relay import Noted, add, db, emptied, relaying, topic, versions  # noqa: F401  # fixtures

from workbench.records import read_topic
from workbench.topics import ensure_topics


@pytest.fixture
def run(db, broker):  # noqa: F811
    environment = os.environ | {
        "EVENTING_DATABASE_URL": db.url,
        "EVENTING_KAFKA_BOOTSTRAP": broker.bootstrap,
        "EVENTING_SERVICE": "test",
        "COLUMNS": "200",
    }

    async def run(*arguments, status=0):
        argv = (sys.executable, "-m", "eventing.cli", "outbox", *arguments)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*argv, env=environment, stdout=pipe, stderr=pipe)
        said, complained = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == status, (said + complained).decode()
        return (said + complained).decode()

    return run


@pytest.fixture
async def missing(db, topic_name, relaying, monkeypatch):  # noqa: F811
    """A topic that is not there, with three keys blocked because of it."""
    name = topic_name("missing")
    monkeypatch.setattr(Noted, "event_topic", name)
    for n in range(6):
        await add(db, f"k{n % 3}")
    async with relaying():
        await emptied(db)
    return name


async def audit(db, key):  # noqa: F811
    query = "SELECT what, aggregateversion, why FROM eventing.outbox_audit WHERE aggregateid = $1 ORDER BY at, what"
    return [tuple(row) for row in await db.fetch(query, key)]


async def test_blocked_keys_are_listed_with_what_was_refused_and_why(missing, run):
    rows = [json.loads(line) for line in (await run("list", "--json")).splitlines()]
    assert {(row["aggregateid"], row["waiting"], row["topic"]) for row in rows} == {
        (f"k{n}", 2, missing) for n in range(3)
    }
    assert "does not exist" in rows[0]["reason"]
    assert len((await run("list", "--json", "--key", "k1")).splitlines()) == 1
    assert "more than 2 are blocked" in await run("list", "--limit", "2")


async def test_status_counts_what_waits(missing, run):
    found = json.loads(await run("status", "--json"))
    assert (found["pending"], found["blocked"], found["blocked_rows"], found["relays"]) == (0, 3, 6, 0)
    assert "blocked_rows: 6" in await run("status")


async def test_a_repaired_key_arrives_in_order_and_flows_again(missing, run, db, relaying, broker):  # noqa: F811
    await ensure_topics(broker.bootstrap, {missing: 2})
    assert "repaired 1 of 1 keys, sent 2 events" in await run("repair", "--key", "k0", "--why", "topic made")
    assert [what for what, *_ in await audit(db, "k0")] == ["blocked", "repaired", "repaired"]
    await add(db, "k0")
    await add(db, "k1")
    async with relaying():
        await emptied(db)
    records = await read_topic(broker.bootstrap, missing)
    assert (versions(records, "k0"), versions(records, "k1")) == ([1, 2, 3], [])
    assert "repaired 2 of 2 keys, sent 5 events" in await run("repair", "--all", "--why", "topic made")
    assert versions(await read_topic(broker.bootstrap, missing), "k1") == [1, 2, 3]


async def test_a_repair_that_is_refused_again_says_so_and_keeps_the_key(missing, run, db):  # noqa: F811
    said = await run("repair", "--topic", missing, "--why", "try", status=1)
    assert "repaired 0 of 3 keys, sent 0 events" in said
    assert "still blocked: k0" in said
    assert len(await db.fetch("SELECT FROM eventing.outbox_blocked")) == 6


async def test_keys_stay_in_order_while_they_are_repaired_and_written(missing, run, db, relaying, broker):  # noqa: F811
    await ensure_topics(broker.bootstrap, {missing: 1})
    stop = asyncio.Event()

    async def write():
        while not stop.is_set():
            await add(db, "k0")
            await asyncio.sleep(0.005)

    async with relaying():
        writing = asyncio.create_task(write())
        await run("repair", "--all", "--why", "topic made")
        await until(lambda: _free(db))
        stop.set()
        await writing
        await emptied(db)
    found = versions(await read_topic(broker.bootstrap, missing), "k0")
    assert list(dict.fromkeys(found)) == list(range(1, max(found) + 1))
    assert await db.fetch("SELECT FROM eventing.outbox_blocked") == []


async def _free(db):  # noqa: F811
    return await db.fetch("SELECT FROM eventing.outbox_blocked_key") == []


async def test_a_skipped_event_is_kept_in_the_audit_and_the_next_ones_flow(missing, run, db, broker):  # noqa: F811
    first, second = await db.fetch(
        "SELECT id, payload FROM eventing.outbox_blocked WHERE aggregateid = 'k2' ORDER BY seq"
    )
    assert "no blocked key has" in await run("skip", str(second["id"]), "--why", "wrong", status=2)
    assert "1 wait behind it" in await run("skip", str(first["id"]), "--why", "never mind")
    assert ("skipped", 1, "never mind") in await audit(db, "k2")
    kept = await db.fetchrow("SELECT payload FROM eventing.outbox_audit WHERE what = 'skipped'")
    assert kept["payload"] == first["payload"]
    await run("skip", str(second["id"]), "--why", "nor this")
    assert await db.fetch("SELECT FROM eventing.outbox_blocked_key WHERE aggregateid = 'k2'") == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("repair", "--why", "x"), "say --all"),
        (("repair", "--all"), "--why"),
        (("skip", "nonsense", "--why", "x"), "nonsense is no event id"),
    ],
)
async def test_a_command_that_would_do_too_much_or_nothing_is_refused(run, arguments, told):
    assert told in await run(*arguments, status=2)


async def test_tables_of_another_version_are_refused_with_the_command_that_upgrades_them(run, db):  # noqa: F811
    await db.execute("UPDATE eventing_version SET version_num = 'e0001'")
    assert "run `eventing migrate`" in await run("status", status=2)
