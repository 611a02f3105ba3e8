"""`promtool` takes the rules, and every case of every alert holds."""

import asyncio
import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2] / "observability" / "prometheus"


@pytest.fixture
def promtool(lacking):
    return shutil.which("promtool") or lacking("promtool", "it is not there; Debian's package prometheus brings it")


async def run(promtool, *arguments):
    process = await asyncio.create_subprocess_exec(
        promtool, *arguments, cwd=HERE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_the_rules_are_rules(promtool):
    code, said = await run(promtool, "check", "rules", "rules.yaml")
    assert code == 0, said


@pytest.mark.parametrize("cases", ["rules_test.yaml", "slo_test.yaml"])
async def test_every_case_holds(promtool, cases):
    code, said = await run(promtool, "test", "rules", cases)
    assert code == 0, said


async def test_a_case_that_does_not_hold_fails(promtool, tmp_path):
    for name in ("rules.yaml", "rules_test.yaml"):
        shutil.copy(HERE / name, tmp_path)
    rules = tmp_path / "rules.yaml"
    rules.write_text(rules.read_text().replace("outbox_blocked_keys) > 0", "outbox_blocked_keys) > 1"))
    code, said = await run(promtool, "test", "rules", str(tmp_path / "rules_test.yaml"))
    assert code != 0
    assert "OutboxKeyBlocked" in said
