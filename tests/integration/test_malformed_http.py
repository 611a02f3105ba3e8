"""What is no HTTP gets problem details too, and the next connection is served."""

import asyncio
import json
import sys
from http import HTTPStatus

import httpx
import pytest

from eventing.problems import Problem
from workbench.home import Home
from workbench.ports import LOOPBACK, free_port

HEAD = b"POST /users HTTP/1.1\r\nHost: here\r\n"


@pytest.fixture(scope="module")
async def port(home: Home, valkey):
    port = free_port()
    known = {
        "EVENTING_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",  # nothing here gets as far
        "EVENTING_CACHE_URL": valkey.url,
        "EVENTING_HTTP_PORT": str(port),
    }
    process = await home.spawn("malformed", [sys.executable, "-m", "eventing.cli", "serve", "accounts.api"], env=known)
    await process.says("api_started", 30)
    yield port
    await process.stop()


async def say(port, request):
    """Send bytes; return the answer's status, headers and body, once the server has closed the connection."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(request)
    try:
        raw = await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *headers = head.decode().lower().split("\r\n")
    return int(status.split()[1]), headers, body


async def alive(port):
    async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}") as http:
        return (await http.get("/livez")).status_code == 200


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (b"hello\r\n\r\n", 400, "illegal request line"),
        (HEAD + b"Content-Length: many\r\n\r\n", 400, "Content-Length"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "Content-Length"),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501, "Transfer-Encoding"),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400, "Host"),
        (HEAD + b"no colon\r\n\r\n", 400, "illegal header line"),
        (HEAD + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n", 431, "larger than 16384 bytes"),
    ],
)
async def test_what_is_no_http_is_answered_with_a_problem_that_names_the_fault(port, request_, status, words):
    got, headers, body = await say(port, request_)
    problem = Problem.model_validate_json(body)
    assert (got, problem.status, problem.title) == (status, status, HTTPStatus(status).phrase)
    assert "content-type: application/problem+json" in headers
    assert words.lower() in problem.detail.lower()
    assert set(json.loads(body)) == set(Problem.model_fields)
    assert await alive(port)


async def test_a_broken_second_request_does_not_spoil_the_answer_to_the_first(port):
    status, _, body = await say(port, b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\nhello\r\n\r\n")
    assert status == 200
    assert b"application/problem+json" in body


async def test_a_body_that_breaks_off_in_its_chunks_closes_the_connection(port):
    start = HEAD + b'Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\nzz\r\n'
    status, _, body = await say(port, start)
    assert (status, Problem.model_validate_json(body).status) == (400, 400)
