"""What a panel looks like: stat, lines, bars and table, with their JSON.

A panel says what it shows and what to do about it, in that order, always; it says as well when
it has nothing to show, since tests demand data of all others. Glances (stats, bars, tables) are
instant queries: the last value of a range would go on showing a server that is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from grafana.source import palette

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = dict[str, Any]

DATASOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}
EMPTY_MARK: Final = "**Empty**"
ALERTS: Final = (
    "Down", "NoReadyWorkers", "ThreadPoolSaturated", "QueueTimeHigh", "AcceptBacklogGrowing",
    "ListenerDropping", "WorkerCrashLoop", "WorkerOOMKilled", "RequestStuck", "RequestTimeouts",
    "HighErrorRate", "CPUThrottled", "MemoryNearLimit", "ReloadFailed", "WorkerImbalance",
    "InterpreterBound", "MetricFilesGrowing",
)  # fmt: skip


@dataclass(frozen=True)
class Query:
    """One PromQL query; the legend names its series."""

    expr: str
    legend: str = ""
    exemplar: bool = False
    table: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel, without its place."""

    kind: str
    title: str
    shows: str
    do: str
    queries: tuple[Query, ...]
    unit: str
    width: int
    height: int
    alerts: tuple[str, ...] = ()
    empty: str = ""
    defaults: Json = field(default_factory=dict)
    overrides: tuple[Json, ...] = ()
    options: Json = field(default_factory=dict)
    transformations: tuple[Json, ...] = ()

    def json(self, number: int, x: int, y: int) -> Json:
        """The panel at its place."""
        text = f"{self.shows}\n\n**What to do:** {self.do}"
        if self.empty:
            text += f"\n\n{EMPTY_MARK} {self.empty}"
        made: Json = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": text,
            "datasource": DATASOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "links": [_runbook(alert) for alert in self.alerts],
            "targets": [self._target(index, query) for index, query in enumerate(self.queries)],
            "fieldConfig": {
                "defaults": {"unit": self.unit, **self.defaults},
                "overrides": list(self.overrides),
            },
            "options": self.options,
        }
        if self.transformations:
            made["transformations"] = list(self.transformations)
        return made

    def _target(self, index: int, query: Query) -> Json:
        ranged = self.kind == "timeseries"
        return {
            "refId": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[index],
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": query.expr,
            "legendFormat": query.legend,
            "range": ranged,
            "instant": not ranged,
            "exemplar": query.exemplar,
            "format": "table" if query.table else "time_series",
        }


def _runbook(alert: str) -> Json:
    if alert not in ALERTS:
        raise ValueError(f"no alert {alert}")
    return {
        "title": f"Runbook: {alert}",
        "type": "link",
        "icon": "doc",
        "tooltip": "",
        "url": f"${{runbook}}#gthreadsrv{alert.lower()}",
        "tags": [],
        "asDropdown": False,
        "targetBlank": True,
        "includeVars": False,
        "keepTime": False,
    }


def thresholds(*steps: tuple[float, str], base: str = palette.FINE) -> Json:
    """The colour of a value: the base, then another from each step on."""
    listed: list[Json] = [{"value": None, "color": base}]
    listed += [{"value": value, "color": color} for value, color in steps]
    return {"mode": "absolute", "steps": listed}


def rising(look: float, act: float) -> Json:
    """Thresholds of something that should be small."""
    return thresholds((look, palette.LOOK), (act, palette.ACT))


def falling(act: float, look: float) -> Json:
    """Thresholds of something that should be large."""
    return thresholds((act, palette.LOOK), (look, palette.FINE), base=palette.ACT)


def override(name: str, **properties: Any) -> Json:
    """Properties of the series of this name (a pattern, if it is written /so/)."""
    matcher = "byRegexp" if name.startswith("/") else "byName"
    return {
        "matcher": {"id": matcher, "options": name},
        "properties": [
            {"id": key.replace("__", "."), "value": value} for key, value in properties.items()
        ],
    }


def fixed(colors: Mapping[str, str]) -> tuple[Json, ...]:
    """Series with a meaning of their own have its colour everywhere."""
    return tuple(
        override(name, color={"mode": "fixed", "fixedColor": color})
        for name, color in colors.items()
    )


def limit_line(name: str) -> Json:
    """A limit is a grey broken line that nothing is filled under or stacked on."""
    return override(
        name,
        color={"mode": "fixed", "fixedColor": palette.LIMIT},
        custom__lineStyle={"fill": "dash", "dash": [8, 6]},
        custom__fillOpacity=0,
        custom__stacking={"mode": "none", "group": "A"},
    )


def by_worker() -> tuple[Json, ...]:
    """Each slot keeps its colour; slots ten apart share it."""
    equals = palette.EQUALS
    made = []
    for digit in range(10):
        color = {"mode": "fixed", "fixedColor": equals[digit % len(equals)]}
        name = f"/worker \\d*{digit}$/"
        if digit < len(equals):
            made.append(override(name, color=color))
        else:
            dotted = {"fill": "dash", "dash": [2, 6]}
            made.append(override(name, color=color, custom__lineStyle=dotted))
    return tuple(made)


def stat(
    title: str, shows: str, do: str, expr: str, *,
    unit: str, limits: Json | None = None, decimals: int | None = None, none: str = "no data",
    to: str = "", alerts: Sequence[str] = (), empty: str = "", width: int = 3,
) -> Panel:  # fmt: skip
    """One number on its colour; ``to`` is the dashboard that says why it is so."""
    defaults: Json = {
        "color": {"mode": "thresholds"},
        "thresholds": limits or thresholds(base=palette.GREY),
        "noValue": none,
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    if to:
        defaults["links"] = [drill_down("Why", to)]
    options = {
        "graphMode": "none",
        "colorMode": "background_solid" if limits else "value",
        "justifyMode": "center",
        "textMode": "value",
        "wideLayout": True,
        "showPercentChange": False,
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return Panel(
        "stat", title, shows, do, (Query(expr),), unit, width, 4,
        tuple(alerts), empty, defaults, options=options,
    )  # fmt: skip


def lines(
    title: str, shows: str, do: str, queries: Sequence[Query], *,
    unit: str, colors: Sequence[Json] = (), limits: Json | None = None, stack: bool = False,
    top: float | None = None, alerts: Sequence[str] = (), empty: str = "",
    width: int = 8, height: int = 8,
) -> Panel:  # fmt: skip
    """Values over time.

    With limits and no colours of their own, lines take the colour of their value: what stands
    out of a hundred instances is what should.
    """
    by_value = limits is not None and not colors
    defaults: Json = {
        "color": {"mode": "thresholds"}
        if by_value
        else {"mode": "shades", "fixedColor": palette.BLUE},
        "thresholds": limits or thresholds(),
        "min": 0,
        "custom": {
            "drawStyle": "line",
            # A stacked class of nothing must not draw a line on top of the others.
            "lineWidth": 0 if stack else 2,
            "lineInterpolation": "linear",
            "fillOpacity": 75 if stack else 0,
            "gradientMode": "scheme" if by_value else "none",
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if stack else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if limits else "off"},
            "axisPlacement": "auto",
        },
    }
    if top is not None:
        defaults["custom"]["axisSoftMax"] = top
    options = {
        "legend": {
            "displayMode": "list",
            "placement": "bottom",
            "showLegend": True,
            "calcs": [],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return Panel(
        "timeseries", title, shows, do, tuple(queries), unit, width, height,
        tuple(alerts), empty, defaults, tuple(colors), options,
    )  # fmt: skip


def bars(
    title: str, shows: str, do: str, queries: Sequence[Query], *,
    unit: str, limits: Json, top: float | None = None, alerts: Sequence[str] = (),
    empty: str = "", width: int = 8, height: int = 8,
) -> Panel:  # fmt: skip
    """One bar for each series, as it is now."""
    defaults: Json = {"color": {"mode": "thresholds"}, "thresholds": limits, "min": 0}
    if top is not None:
        defaults["max"] = top
    options = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "valueMode": "color",
        "namePlacement": "left",
        "showUnfilled": True,
        "sizing": "auto",
        "minVizWidth": 8,
        "minVizHeight": 16,
        "maxVizHeight": 32,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "legend": {
            "displayMode": "hidden",
            "placement": "bottom",
            "showLegend": False,
            "calcs": [],
        },
    }
    return Panel(
        "bargauge", title, shows, do, tuple(queries), unit, width, height,
        tuple(alerts), empty, defaults, options=options,
    )  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of a table: the label it shows, or the query whose value it is."""

    source: str
    title: str
    properties: Json = field(default_factory=dict)

    def override(self) -> Json:
        """How the column looks."""
        return override(self.title, **self.properties)


def column(
    source: str, title: str, unit: str = "", limits: Json | None = None, width: int = 0,
    link: Json | None = None, decimals: int | None = None,
) -> Column:  # fmt: skip
    """A column; with limits its cells are coloured."""
    properties: Json = {}
    if unit:
        properties["unit"] = unit
    if decimals is not None:
        properties["decimals"] = decimals
    if limits:
        properties["thresholds"] = limits
        properties["custom__cellOptions"] = {"type": "color-background", "mode": "basic"}
    if width:
        properties["custom__width"] = width
    if link:
        properties["links"] = [link]
    return Column(source, title, properties)


def table(
    title: str, shows: str, do: str, exprs: Sequence[str], columns: Sequence[Column], *,
    alerts: Sequence[str] = (), empty: str = "", sort: str = "", descending: bool = False,
    width: int = 24, height: int = 8,
) -> Panel:  # fmt: skip
    """A row for each set of labels, with the queries' values side by side."""
    organize = {
        "id": "organize",
        "options": {
            "excludeByName": {},
            "includeByName": {one.source: True for one in columns},
            "indexByName": {one.source: index for index, one in enumerate(columns)},
            "renameByName": {one.source: one.title for one in columns},
        },
    }
    # Names before properties: an override finds its column by the name shown.
    options: Json = {
        "showHeader": True,
        "cellHeight": "sm",
        "frameIndex": 0,
    }
    if sort:
        options["sortBy"] = [{"displayName": sort, "desc": descending}]
    defaults: Json = {
        "color": {"mode": "thresholds"},
        "thresholds": thresholds(),
        "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False},
    }
    return Panel(
        "table", title, shows, do, tuple(Query(expr, table=True) for expr in exprs),
        "short", width, height, tuple(alerts), empty, defaults,
        tuple(one.override() for one in columns if one.properties), options,
        ({"id": "merge", "options": {}}, organize),
    )  # fmt: skip


def drill_down(title: str, uid: str, *, instance: str = "${instance:queryparam}") -> Json:
    """A link from a value to another dashboard, with what is selected and the time."""
    kept = "${datasource:queryparam}&${job:queryparam}&${namespace:queryparam}"
    rest = "${runbook:queryparam}&${__url_time_range}"
    return {"title": title, "url": f"/d/{uid}?{kept}&{instance}&{rest}", "targetBlank": False}
