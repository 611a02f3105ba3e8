"""accounts over HTTP, as a real process on a real database and cache."""

import asyncio
import json
import sys

import httpx
import pytest

from eventing import Database
from eventing.http import Bounded
from eventing.migrate import migrate
from workbench.home import Home
from workbench.ports import free_port

ADA = {"name": "Ada", "email": "ada@example.com"}


@pytest.fixture(scope="module")
async def api(home: Home, postgres, valkey):
    url, port = await postgres.create_database("accounts-over-http"), free_port()
    await migrate(url, "accounts")
    known = {"EVENTING_DATABASE_URL": url, "EVENTING_CACHE_URL": valkey.url, "EVENTING_HTTP_PORT": str(port)}
    process = await home.spawn("accounts", [sys.executable, "-m", "eventing.cli", "serve", "accounts.api"], env=known)
    await process.says("api_started", 30)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as http, Database(url) as db:
        yield http, db
    await process.stop()


@pytest.fixture
async def clean(api):
    http, db = api
    await db.execute("TRUNCATE users, idempotency_key, eventing.outbox, eventing.aggregate_version")
    return http, db


async def events(db):
    rows = await db.fetch("SELECT type, aggregateversion, payload, id FROM eventing.outbox ORDER BY seq")
    return [
        (row["type"].split(".")[-2], row["aggregateversion"], json.loads(row["payload"]), str(row["id"]))
        for row in rows
    ]


async def test_a_registration_and_its_event_are_one(clean):
    http, db = clean
    answer = await http.post("/users", json=ADA)
    user = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/users/{user['userId']}")
    assert await events(db) == [
        ("registered", 1, {"userId": user["userId"], "action": "registered"} | ADA, user["eventId"])
    ]


async def test_a_taken_address_is_refused_whatever_its_case_and_makes_no_event(clean):
    http, db = clean
    await http.post("/users", json=ADA)
    answer = await http.post("/users", json=ADA | {"email": "ADA@example.com"})
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert len(await events(db)) == 1


async def test_the_same_request_under_a_key_is_answered_again_and_done_once(clean):
    http, db = clean
    answers = [await http.post("/users", json=ADA, headers={"Idempotency-Key": "k1"}) for _ in range(3)]
    assert {(a.status_code, a.text) for a in answers} == {(201, answers[0].text)}
    assert len(await events(db)) == 1


async def test_another_request_under_a_used_key_is_refused(clean):
    http, _ = clean
    await http.post("/users", json=ADA, headers={"Idempotency-Key": "k1"})
    answer = await http.post("/users", json=ADA | {"name": "Eve"}, headers={"Idempotency-Key": "k1"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


async def test_a_request_whose_key_is_at_work_is_refused_at_once(clean):
    http, db = clean
    async with db.transaction() as tx:
        await tx.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")  # the first request waits inside its work
        first = asyncio.create_task(http.post("/users", json=ADA, headers={"Idempotency-Key": "k1"}))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass"
        while not (await db.fetchrow(waiting))["count"]:
            await asyncio.sleep(0.01)
        second = await http.post("/users", json=ADA, headers={"Idempotency-Key": "k1"})
        assert second.status_code == 409
    assert (await first).status_code == 201


async def test_a_refused_request_leaves_its_key_free(clean):
    http, _ = clean
    await http.post("/users", json=ADA)
    headers = {"Idempotency-Key": "k1"}
    assert (await http.post("/users", json=ADA, headers=headers)).status_code == 409
    assert (await http.post("/users", json=ADA | {"email": "b@example.com"}, headers=headers)).status_code == 201


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "", "email": "a@example.com"}, "name"),
        ({"name": " \u2003 ", "email": "a@example.com"}, "name"),
        ({"name": "A\x00", "email": "a@example.com"}, "name"),
        ({"name": "A", "email": "nobody"}, "email"),
        ({"name": "A"}, "email"),
        (ADA | {"role": "admin"}, "role"),
    ],
)
async def test_a_wrong_field_is_named(clean, body, field):
    http, db = clean
    answer = await http.post("/users", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert await events(db) == []


async def test_each_change_has_the_next_version_and_no_change_has_no_event(clean):
    http, db = clean
    path = (await http.post("/users", json=ADA)).headers["Location"]
    assert (await http.patch(path, json={"name": "Ada King"})).json()["version"] == 2
    assert (await http.patch(path, json={"name": "Ada King"})).json()["version"] == 2
    assert (await http.patch(path, json={})).status_code == 422
    assert (await http.delete(path)).status_code == 204
    assert (await http.delete(path)).status_code == 404
    assert [(kind, version) for kind, version, *_ in await events(db)] == [
        ("registered", 1),
        ("updated", 2),
        ("deleted", 3),
    ]


@pytest.mark.parametrize("size", [100_000, 2_000_000])
async def test_a_body_that_is_too_large_is_refused_and_its_sender_can_read_why(clean, size):
    http, _ = clean
    for _ in range(5):  # a connection that is closed too early loses the answer, not every time
        answer = await http.post("/users", json=ADA | {"name": "x" * size})
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("eventing.http.BODY_WITHIN", 0.05)
    said = []

    async def silent():
        await asyncio.Event().wait()

    async def send(message):
        said.append(message)

    scope = {"type": "http", "method": "POST", "path": "/users", "headers": [(b"content-length", b"9")]}
    async with asyncio.timeout(10):
        await Bounded(None)(scope, silent, send)
    assert (said[0]["status"], json.loads(said[1]["body"])["status"]) == (408, 408)


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"{", "application/json", "no JSON"),
        (b"[" * 30_000, "application/json", "cannot be read as JSON"),
        (b'{"name": "\xff"}', "application/json", "cannot be read as JSON"),
        (b"[]", "application/json", "a JSON object is required"),
        (b'{"name": "Ada", "email": "ada@example.com"}', "text/plain", "Content-Type: application/json"),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused_with_what_to_send(clean, body, kind, words):
    http, _ = clean
    answer = await http.post("/users", content=body, headers={"Content-Type": kind})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["errors"][0]["field"] == "body"
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/users", 405)])
async def test_what_is_not_there_is_a_problem_too(clean, method, path, status):
    http, _ = clean
    answer = await http.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.headers.get("allow") == ("POST" if status == 405 else None)
    assert path in answer.json()["detail"] or method in answer.json()["detail"]


async def test_it_needs_no_kafka_and_says_how_it_is(clean):
    http, _ = clean
    ready = (await http.get("/readyz")).json()
    assert ready == {"ready": True, "checks": {"database": "ok", "cache": "ok"}}
    assert (await http.get("/livez")).status_code == 200
    assert (
        'http_server_request_duration_seconds_count{method="POST",route="/users",status="201"}'
        in (await http.get("/metrics")).text
    )
