"""`observability/conventions.yaml` and the code name the same spans, attributes, metrics and log fields."""

import importlib
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from eventing import attributes, headers, logs, metrics, tracing
from eventing.event import Event
from eventing.plain_metrics import Counts, Distributions

ROOT = Path(__file__).parents[2]
REGISTRY = yaml.safe_load((ROOT / "observability" / "conventions.yaml").read_text())
SERVICES = [path for path in (ROOT / "services").rglob("*.py") if "workbench" not in path.parts]


def named(module):
    return {value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}


def test_every_attribute_is_declared_and_every_declared_one_is_named():
    assert named(attributes) == set(REGISTRY["attributes"])


def test_a_switch_turns_to_the_names_of_the_newer_convention(monkeypatch):
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http, messaging")
    newer = importlib.reload(attributes)
    names = named(newer)
    monkeypatch.undo()
    importlib.reload(attributes)
    assert names == {entry.get("newer", name) for name, entry in REGISTRY["attributes"].items()}


def test_an_attribute_is_spelled_in_one_place_only():
    spelled = re.compile("|".join(re.escape(f'"{name}"') for name in REGISTRY["attributes"] if "." in name))
    found = {path.name for path in SERVICES if spelled.search(path.read_text())}
    assert found == {"attributes.py"}


def shape(metric):
    if isinstance(metric, Counts | Distributions):
        kind = "counter" if isinstance(metric, Counts) else "histogram"
        return metric._name, {"type": kind, "labels": list(metric._labels), "brief": metric._text}
    suffix = "_total" if metric._type == "counter" else ""
    known = {"type": metric._type, "labels": list(metric._labelnames), "brief": metric._documentation}
    return metric._name + suffix, known


def test_metrics_are_those_declared_with_their_labels_and_words():
    kinds = Counter | Gauge | Histogram | Counts | Distributions
    assert dict(shape(m) for m in vars(metrics).values() if isinstance(m, kinds)) == REGISTRY["metrics"]


def test_no_metric_is_made_elsewhere_and_every_one_is_used():
    sources = [(path.name, path.read_text()) for path in SERVICES]
    makers = {name for name, text in sources if re.search(r"\b(Counter|Gauge|Histogram)\(\s*\"", text)}
    assert makers == {"metrics.py"}
    rest = "".join(text for name, text in sources if name != "metrics.py")
    names = [name for name in vars(metrics) if name.isupper() and not name.startswith("_")]
    assert [name for name in names if not re.search(rf"\b{name}\b", rest)] == []


def test_no_label_is_unbounded():
    labels = {label for metric in REGISTRY["metrics"].values() for label in metric["labels"]}
    assert labels.isdisjoint({"key", "event_id", "partition", "offset", "pod", "user_id", "correlation_id"})


def story():
    """Walk one event through every function of the table, once well and once not."""
    hop = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    known = dict.fromkeys((headers.ORIGIN_TRACEPARENT, headers.TRACEPARENT, headers.DLQ_TRACEPARENT), hop)
    known |= {headers.CORRELATIONID: "1", headers.REDRIVE_ID: "r"}
    event = Event("1", "t", "s", "k", b"{}", datetime.now(UTC), "{topic}", 0, 7, known)
    with tracing.request("{method}", {}) as request:
        request.update_name("{method} {route}")
        request.set_attributes({attributes.HTTP_ROUTE: "/", attributes.HTTP_STATUS: 500})
        tracing.failed(request, "500")
        with tracing.created("{topic}", "1", "t"):
            pass
    with tracing.relayed("{topic}", [("1", hop)]):
        pass
    place = {"topic": "{topic}", "partition": 0, "offset": 7, "written": 0, "group": "g"}
    with tracing.processed(event, **place, previous=None) as first:
        with tracing.effect("transaction") as effect:
            effect.set_attribute(attributes.DUPLICATE, value=True)
        with tracing.effect("smtp send", {attributes.MAIL_TEMPLATE: "w"}), tracing.effect("cache invalidate"):
            pass
        tracing.failed(first, "ValueError")
    with tracing.processed(event, **place, previous=first) as second:
        pass
    with tracing.forwarded("{topic}", "1", "g", "ValueError", second):
        pass
    with tracing.redriving("{topic}", "r"), tracing.redriven("{topic}", "1", "r", hop, hop):
        pass
    event.redrives = 1
    with tracing.processed(event, **place, previous=None), tracing.committing("{topic}", "g", 7):
        pass
    with tracing.processed_batch([event], "g"):
        pass


def test_every_span_is_declared_and_every_declared_one_is_made(spans):
    story()
    made = spans()
    assert {span.name for span in made} == set(REGISTRY["spans"])
    for span in made:
        declared = REGISTRY["spans"][span.name]
        assert span.kind.name.lower() in declared["kind"].split(" or "), span.name
        assert set(declared["attributes"]) <= set(span.attributes), span.name
        assert set(span.attributes) <= {*declared["attributes"], *declared["sometimes"]}, span.name


@pytest.mark.parametrize("name", list(REGISTRY["spans"]))
def test_what_a_span_may_say_it_says(spans, name):
    story()
    same = [span for span in spans() if span.name == name]
    declared = REGISTRY["spans"][name]
    said = {key for span in same for key in span.attributes} | {attributes.ERROR_TYPE}
    assert said >= set(declared["sometimes"])
    links = {link.attributes.get("app.link.type") for span in same for link in span.links} - {None}
    assert links == set(declared.get("links", []))


def test_the_ids_of_a_line_are_declared():
    event = Event("1", "t", "s", "k", b"{}", datetime.now(UTC), "users", 0, 7)
    assert set(logs.ids(event, "g")) <= set(REGISTRY["log_fields"])


LOGS_A_RETRY = """
from datetime import UTC, datetime
import structlog
from eventing import logs
from eventing.event import Event

logs.configure()
event = Event("1", "t", "s", "k", b"secret", datetime.now(UTC), "users", 0, 7)
structlog.get_logger("test").warning("retried", **logs.ids(event, "g"), error_type="X", error="y", disposition=None)
"""


def test_a_line_is_json_with_declared_fields():
    told = subprocess.run(  # a process of its own: logging is set up once in each
        [sys.executable, "-c", LOGS_A_RETRY],
        env=os.environ | {"EVENTING_LOG_FORMAT": "json"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    line = json.loads(told.stdout.splitlines()[-1])
    assert {**line} == {**line, "event": "retried", "event_id": "1", "group": "g", "attempt": 1}
    assert set(line) <= set(REGISTRY["log_fields"])
    assert "secret" not in told.stdout
