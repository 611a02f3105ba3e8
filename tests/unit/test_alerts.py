"""Every alert names metrics that exist, has cases that prove it, and a page for whoever it wakes."""

import re
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parents[2] / "observability"
REGISTRY = yaml.safe_load((HERE / "conventions.yaml").read_text())["metrics"]
RULES = [
    rule for g in yaml.safe_load((HERE / "prometheus" / "rules.yaml").read_text())["groups"] for rule in g["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
CASES = [
    (test["name"], case)
    for path in HERE.glob("prometheus/*_test.yaml")
    for test in yaml.safe_load(path.read_text())["tests"]
    for case in test["alert_rule_test"]
]
RUNBOOK = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", (HERE / "runbook.md").read_text(), re.MULTILINE | re.DOTALL))
SERIES = {
    name + suffix
    for name, metric in REGISTRY.items()
    for suffix in (("_bucket", "_count", "_sum") if metric["type"] == "histogram" else ("",))
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_series_and_labels_that_exist(rule):
    asked = re.findall(r"\b((?:[a-z]+_){2,}[a-z]+)\b(?:\{([^}]*)\})?", rule["expr"])
    metrics = [(name, labels) for name, labels in asked if name not in ("last_over_time", "group_left")]
    recorded = {other["record"] for other in RULES if "record" in other}
    assert {name for name, _ in metrics} <= SERIES | {"freshness_bad", "success_bad"}
    assert set(re.findall(r"group:\w+:\w+", rule["expr"])) <= recorded
    for name, labels in metrics:
        known = REGISTRY.get(re.sub("_(bucket|count|sum)$", "", name), REGISTRY.get(name, {"labels": []}))["labels"]
        assert set(re.findall(r"(\w+)(?==|!=|=~)", labels)) <= {*known, "le"}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_firing_and_a_silent_case(name):
    mine = [bool(case["exp_alerts"]) for _, case in CASES if case["alertname"] == name]
    assert sorted(mine) == [False, True]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_leads_to_a_page_that_says_what_to_look_at_and_what_to_type(name):
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["runbook_url"] == f"observability/runbook.md#{name.lower()}"
    assert "- Look at: " in RUNBOOK[name]
    assert re.search(r"- Type: .*`", RUNBOOK[name])


def test_no_page_and_no_case_is_left_of_an_alert_that_has_gone():
    assert set(RUNBOOK) == set(ALERTS) == {case["alertname"] for _, case in CASES}


def test_a_page_names_commands_and_metrics_that_exist():
    words = set(
        re.findall(r"`((?:consumer|outbox|messaging|email|event|otel)_[a-z_]+)`", (HERE / "runbook.md").read_text())
    )
    events = {"outbox_key_blocked", "consumer_holds"}
    assert words - events <= SERIES | set(REGISTRY)
