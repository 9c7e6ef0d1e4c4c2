"""What every dashboard has: its place among the others, variables, annotations, a grid.

The variables work with and without Kubernetes: where nothing carries a namespace, "All" is the
pattern ``.*``, which an absent label matches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from grafana.source import palette
from grafana.source.panels import DATASOURCE, Json, Panel
from grafana.source.queries import increase, metric, total

COLUMNS: Final = 24
TAG: Final = "gthreadsrv"
# Where metrics/RUNBOOK.md can be read. Alerts name it in the same way.
RUNBOOK: Final = "metrics/RUNBOOK.md"
OVERVIEW_UID: Final = "gthreadsrv-overview"
SATURATION_UID: Final = "gthreadsrv-worker-saturation"
RESOURCES_UID: Final = "gthreadsrv-resources"
EXPORTER_UID: Final = "gthreadsrv-exporter"


@dataclass(frozen=True)
class Row:
    """Panels under a heading, laid from left to right, a new line when they do not fit."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """One dashboard."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    one_instance: bool = False

    def json(self, runbook: str = RUNBOOK) -> Json:
        """The dashboard as Grafana takes it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": 39,
            "version": 1,
            "editable": True,
            "timezone": "browser",
            "graphTooltip": 1,  # one crosshair over all panels
            "fiscalYearStartMonth": 0,
            "time": {"from": "now-1h", "to": "now"},
            "timepicker": {},
            "refresh": "30s",
            "links": _links(),
            "annotations": {"list": _annotations()},
            "templating": {"list": self._variables(runbook)},
            "panels": self._panels(),
        }

    def _panels(self) -> list[Json]:
        made: list[Json] = []
        y = 0
        for row in self.rows:
            made.append(
                {
                    "id": len(made) + 1,
                    "type": "row",
                    "title": row.title,
                    "collapsed": False,
                    "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
                    "panels": [],
                }
            )
            y += 1
            x = height = 0
            for panel in row.panels:
                if x + panel.width > COLUMNS:
                    x, y, height = 0, y + height, 0
                made.append(panel.json(len(made) + 1, x, y))
                x += panel.width
                height = max(height, panel.height)
            y += height
        return made

    def _variables(self, runbook: str) -> list[Json]:
        info = "gthreadsrv_build_info"
        scope = 'job=~"$job", namespace=~"$namespace"'
        return [
            {
                "name": "datasource",
                "label": "Data source",
                "type": "datasource",
                "query": "prometheus",
                "regex": "",
                "hide": 0,
                "refresh": 1,
                "multi": False,
                "includeAll": False,
                "options": [],
            },
            # Without a pattern for all, so that `up` is that of the server's own jobs.
            _query("job", f"label_values({info}, job)", all_value=""),
            _query("namespace", f'label_values({info}{{job=~"$job"}}, namespace)'),
            _query(
                "instance",
                f"label_values({info}{{{scope}}}, instance)",
                several=not self.one_instance,
            ),
            _query(
                "worker",
                f'label_values(gthreadsrv_worker_up{{{scope}, instance=~"$instance"}}, worker)',
                sort=3,
            ),
            {
                "name": "runbook",
                "label": "Runbook",
                "description": "Where metrics/RUNBOOK.md can be read",
                "type": "textbox",
                "query": runbook,
                "hide": 2,
                "skipUrlSync": False,
                "options": [{"selected": True, "text": runbook, "value": runbook}],
                "current": {"selected": True, "text": runbook, "value": runbook},
            },
        ]


def _query(
    name: str, query: str, *, all_value: str = ".*", several: bool = True, sort: int = 1
) -> Json:
    made: Json = {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"qryType": 1, "query": query, "refId": f"variable-{name}"},
        "regex": "",
        "hide": 0,
        "refresh": 2,  # with the time range: what has been there in it
        "sort": sort,
        "multi": several,
        "includeAll": several,
        "options": [],
    }
    if several:
        made["current"] = {"selected": True, "text": ["All"], "value": ["$__all"]}
        if all_value:
            made["allValue"] = all_value
    return made


def _links() -> list[Json]:
    common = {"tooltip": "", "asDropdown": False, "includeVars": True, "keepTime": True}
    return [
        {
            "title": "gthreadsrv",
            "type": "dashboards",
            "icon": "external link",
            "tags": [TAG],
            "url": "",
            "targetBlank": False,
            **common,
        },
        {
            "title": "Runbook",
            "type": "link",
            "icon": "doc",
            "tags": [],
            "url": "${runbook}",
            "targetBlank": True,
            **common,
            "includeVars": False,
            "keepTime": False,
        },
    ]


def _annotations() -> list[Json]:
    def annotation(name: str, color: str, expr: str, text: str) -> Json:
        return {
            "name": name,
            "datasource": DATASOURCE,
            "enable": True,
            "hide": False,
            "iconColor": color,
            "expr": expr,
            "titleFormat": name,
            "textFormat": text,
            "step": "15s",
        }

    started = f"changes({metric('start_time_seconds')}[$__rate_interval]) > 0"
    reloaded = (
        f"{total(increase('reloads_total', over='$__rate_interval'), 'instance, result')} > 0"
    )
    return [
        annotation("Restart", palette.PURPLE, started, "{{instance}} was started anew"),
        annotation("Reload", palette.SKY, reloaded, "{{instance}}: reload {{result}}"),
    ]
