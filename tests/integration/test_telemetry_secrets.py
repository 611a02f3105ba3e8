"""A run with failures, retries, a dead letter and a redrive tells nothing that a body, an address or a key holds."""

import json
from collections import Counter

import httpx
import pytest
from tests.integration.rig import Rig, registered, until

from contracts.users import TOPIC
from eventing.dead_letter import topic_of

SENTINEL = "quetzalcoatl"
PERSON = f"{SENTINEL}-{{}}@example.com"


@pytest.fixture(scope="module")
async def told(broker):
    """Return everything that was exported or said: spans, log lines and metrics, by where it was found."""
    async with Rig.open() as rig, httpx.AsyncClient(timeout=10) as http:
        await rig.fleet.start()
        for number in range(3):
            user = {"email": PERSON.format(number), "name": f"{SENTINEL} person"}
            assert (await http.post(f"{rig.fleet.url('accounts-api')}/users", json=user)).status_code < 300
        await until(lambda: len(rig.stack.mailbox.messages) >= 3)
        body, headers = registered("1", email=f"not an address {SENTINEL}")  # breaks its contract
        await rig.send(body, [*headers, ("x-note", SENTINEL.encode())], key=SENTINEL.encode())
        await rig.send(b'{"action": "' + SENTINEL.encode(), [], key=SENTINEL.encode())  # no JSON
        letters = topic_of(TOPIC, "mailer")
        await rig.stack.spans.seen(lambda span: span.name == f"send {letters}", timeout=30)
        await rig.fleet.run(["python", "-m", "eventing.cli", "dlq", "redrive", letters])
        await rig.stack.spans.seen(lambda span: span.name == f"process {TOPIC}.mailer.redrive", timeout=30)
        scraped = {name: (await http.get(f"{rig.fleet.url(name)}/metrics")).text for name in rig.fleet.processes}
        logs = {name: process.log.read_text() for name, process in rig.fleet.processes.items()}
        return list(rig.stack.spans.spans), logs, scraped


def test_no_span_has_it(told):
    spans, _, _ = told
    assert {"mailer", "analytics", "accounts-relay"} <= {span.service for span in spans}
    assert [span.name for span in spans if SENTINEL in repr(span)] == []


def test_no_log_line_has_it(told):
    _, logs, _ = told
    assert any('"dead_lettered"' in text for text in logs.values())
    assert [line for text in logs.values() for line in text.splitlines() if SENTINEL in line] == []


def test_no_metric_has_it(told):
    _, _, scraped = told
    assert [name for name, text in scraped.items() if SENTINEL in text] == []


def test_every_line_is_json_and_a_failure_is_one_line(told):
    _, logs, _ = told
    lines = [json.loads(line) for text in logs.values() for line in text.splitlines()]
    given_up = [line for line in lines if line["event"] == "dead_lettered"]
    once = Counter((line["group"], line["topic"], line["partition"], line["offset"]) for line in given_up)
    others = {place: count for place, count in once.items() if place[0] != "mailer"}  # its letters came back
    assert others
    assert set(others.values()) == {1}
