"""Dashboards are what the code says, and ask for metrics and labels that exist."""

import json
import re
from pathlib import Path

import pytest
import yaml

from workbench.dashboards import HERE, slug, text
from workbench.panels import BOARDS

REGISTRY = yaml.safe_load((Path(__file__).parents[2] / "observability" / "conventions.yaml").read_text())["metrics"]
SCRAPED = ["instance", "job", "le"]  # labels that Prometheus adds, and a histogram's own
PANELS = [(name, panel) for name, rows in BOARDS.items() for panels in rows.values() for panel in panels]


@pytest.mark.parametrize("name", BOARDS)
def test_the_file_is_what_the_code_makes(name):
    assert (HERE / f"{slug(name)}.json").read_text() == text(name), "run `uv run python -m workbench.dashboards`"


def test_no_other_file_is_there():
    assert {path.stem for path in HERE.glob("*.json")} == {slug(name) for name in BOARDS}


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=lambda value: getattr(value, "title", ""))
def test_a_panel_asks_for_metrics_and_labels_that_exist(name, panel):
    for legend, query in panel.queries.items():
        asked = [re.sub("_(bucket|count|sum)$", "", word) for word in re.findall(r"\b(?:[a-z]+_){2,}[a-z]+\b", query)]
        metrics = set(asked) - {"rate_interval", "error_type"}
        assert metrics <= set(REGISTRY)
        labels = {*SCRAPED, *(label for metric in metrics for label in REGISTRY[metric]["labels"])}
        by = {word.strip() for group in re.findall(r"by \(([^)]*)\)", query) for word in group.split(",")}
        assert by | set(re.findall(r"(\w+)(?:=|!=)\"", query)) <= labels
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= by


def test_every_panel_has_a_place_and_a_source_of_its_own_choice():
    board = json.loads(text("Outbox"))
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
