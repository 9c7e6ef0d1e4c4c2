"""The committed dashboards, read as Prometheus gets their queries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[3] / "grafana"
FILES = sorted((FOLDER / "dashboards").glob("*.json"))

# What Grafana puts in, as for a dashboard of everything over its last ten seconds.
VARIABLES = {
    "$__rate_interval": "5s",
    "$__range": "10s",
    "$__interval": "1s",
    "$job": ".*",
    "$namespace": ".*",
    "$instance": ".*",
    "$worker": ".*",
}


def load(path: Path) -> Any:
    """One dashboard."""
    return json.loads(path.read_text())


@dataclass(frozen=True)
class PanelQuery:
    """A query of a panel, ready to be asked."""

    dashboard: str
    panel: str
    description: str
    expression: str

    @property
    def name(self) -> str:
        return f"{self.dashboard}: {self.panel}"


def panels(path: Path) -> list[dict[str, Any]]:
    """A dashboard's panels, headings left out."""
    return [panel for panel in load(path)["panels"] if panel["type"] != "row"]


def substituted(expression: str) -> str:
    """The expression with every variable replaced."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


def queries() -> Iterator[PanelQuery]:
    """All queries of all dashboards."""
    for path in FILES:
        for panel in panels(path):
            for target in panel["targets"]:
                yield PanelQuery(
                    path.stem, panel["title"], panel["description"], substituted(target["expr"])
                )
