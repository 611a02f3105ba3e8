"""A real Prometheus scrapes the running services under load: every panel's query finds something."""

import asyncio
import json
import shutil

import httpx
import pytest
import yaml
from tests.integration.rig import Rig, registered, until

from workbench.panels import BOARDS
from workbench.ports import free_port

UNBROKEN = {"EVENTING_CONSUMER_BREAKER_SHARE": "1", "EVENTING_CONSUMER_BREAKER_ROW": "100000"}
QUERIES = [
    (f"{name}: {panel.title}, {legend}", query)
    for name, rows in BOARDS.items()
    for panels in rows.values()
    for panel in panels
    for legend, query in panel.queries.items()
]


@pytest.fixture
def prometheus(lacking):
    return shutil.which("prometheus") or lacking("prometheus", "it is not there; Debian's package brings it")


def configuration(fleet, directory):
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [fleet.url(name).removeprefix("http://")]}]}
        for name in fleet.processes
    ]
    path = directory / "prometheus.yaml"
    path.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    return path


async def load(rig, http, seconds):
    """Register users over HTTP, and beside each one whose event names no address: mailer gives it up."""
    until_then = asyncio.get_running_loop().time() + seconds
    number = 0
    while asyncio.get_running_loop().time() < until_then:
        number += 1
        user = {"email": f"user{number}@example.com", "name": "Ada"}
        await http.post(f"{rig.fleet.url('accounts-api')}/users", json=user)
        body, headers = registered(f"nameless-{number}")
        await rig.send(json.dumps(json.loads(body) | {"email": None}).encode(), headers, key=b"k")
        await asyncio.sleep(0.05)


async def test_every_panel_finds_something(prometheus, broker, tmp_path):
    tmp_path.chmod(0o755)
    async with Rig.open(UNBROKEN) as rig:
        await rig.fleet.start()
        port = free_port()
        await rig.home.spawn("prometheus", [
            prometheus, f"--config.file={configuration(rig.fleet, tmp_path)}", f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage",
        ])  # fmt: skip
        async with httpx.AsyncClient(timeout=10) as http:

            async def ask(path, **query):
                answer = await http.get(f"http://127.0.0.1:{port}/api/v1/{path}", params=query)
                return answer.json()["data"]

            async def empty():
                asked = [(name, query.replace("$__rate_interval", "15s")) for name, query in QUERIES]
                return [name for name, query in asked if not (await ask("query", query=query))["result"]]

            await load(rig, http, 8)

            async def full():
                return not await empty()

            try:
                await until(full, 20, pause=1)
            except TimeoutError:
                assert await empty() == []
            examples = await ask("query_exemplars", query="event_end_to_end_delay_seconds_bucket", start=0, end=4e9)
            assert any(e["labels"]["trace_id"] for series in examples for e in series["exemplars"])
