"""Grafana's dashboards, made of `panels.py`; run as a script it writes `observability/dashboards`."""

import json
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from workbench.panels import BOARDS, Panel

HERE = Path(__file__).parents[2] / "observability" / "dashboards"

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


def board(name: str) -> Dashboard:
    """Return one dashboard; a variable of it chooses the Prometheus."""
    made = Dashboard(name).uid(f"evenkeel-{slug(name)}").tags(["evenkeel"]).refresh("30s").time("now-1h", "now")
    made.with_variable(DatasourceVariable("datasource").type("prometheus").label("Prometheus"))
    for title, panels in BOARDS[name].items():
        made.with_row(Row(title))
        for panel in panels:
            made.with_panel(_drawn(panel, span=24 // len(panels)))
    return made


def _drawn(panel: Panel, span: int) -> TimeSeries:
    drawn = TimeSeries().title(panel.title).unit(panel.unit).min(0).datasource(_SOURCE).span(span).height(8)
    for number, (legend, expression) in enumerate(panel.queries.items()):
        query = Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + number))
        drawn.with_target(query.exemplar(exemplar=panel.examples))
    return drawn


def slug(name: str) -> str:
    """Return the name of a dashboard's file."""
    return name.lower().replace(" ", "-")


def text(name: str) -> str:
    """Return one dashboard as Grafana reads it."""
    return json.dumps(board(name).build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for each in BOARDS:
        (HERE / f"{slug(each)}.json").write_text(text(each))
