"""What every panel must have: a place, a unit, words that help, colours, working links."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from grafana.source.panels import ALERTS
from tests.unit.grafana.queries import EMPTY_MARK, load, panels

DASHBOARDS = load()
VARIABLES = ["datasource", "job", "namespace", "instance", "worker", "runbook"]
EACH = pytest.mark.parametrize("name", sorted(DASHBOARDS))


@EACH
def test_ids_and_titles_are_unique(name: str) -> None:
    """No two panels share an id or a title."""
    every = DASHBOARDS[name]["panels"]

    for key in ("id", "title"):
        values = [panel[key] for panel in every]
        assert len(values) == len(set(values)), key


def test_uids_are_unique_and_short() -> None:
    """Grafana allows 40 characters in a dashboard's uid, and one dashboard for each."""
    uids = [dashboard["uid"] for dashboard in DASHBOARDS.values()]

    assert len(set(uids)) == len(uids) == 4
    assert all(re.fullmatch(r"[a-z-]{1,40}", uid) for uid in uids)


@EACH
def test_panels_lie_on_the_grid(name: str) -> None:
    """Panels are within 24 columns, overlap nowhere and leave no hole."""
    cells: dict[tuple[int, int], str] = {}
    for panel in DASHBOARDS[name]["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in cells, (panel["title"], cells.get((x, y)))
                cells[x, y] = panel["title"]
    assert len(cells) == 24 * (1 + max(y for _, y in cells))


@EACH
def test_panels_are_wide_enough_to_be_read(name: str) -> None:
    """On a screen of 1280 pixels a column has 53: numbers get 150, curves and tables 400."""
    for panel in panels(DASHBOARDS[name]):
        least = {"stat": 3, "bargauge": 5}.get(panel["type"], 8)
        assert panel["gridPos"]["w"] >= least, panel["title"]
        assert panel["gridPos"]["h"] >= 4, panel["title"]


@EACH
def test_titles_fit_their_panels(name: str) -> None:
    """A title is not cut off at 1280 pixels: 8 a letter, 60 for the border and the info icon."""
    for panel in panels(DASHBOARDS[name]):
        assert len(panel["title"]) * 8 <= panel["gridPos"]["w"] * 53 - 60, panel["title"]


@EACH
def test_panels_say_what_they_show_and_what_to_do(name: str) -> None:
    """Every panel has a unit, the datasource variable, and a description with advice."""
    for panel in panels(DASHBOARDS[name]):
        source = {"type": "prometheus", "uid": "${datasource}"}
        assert panel["datasource"] == source, panel["title"]
        assert all(target["datasource"] == source for target in panel["targets"])
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        shows, _, do = panel["description"].partition("\n\n**What to do:** ")
        assert len(shows) > 20, panel["title"]
        assert len(do) > 20, panel["title"]
        for text in panel["description"].split("\n\n"):
            assert text.endswith("."), (panel["title"], text)


@EACH
def test_curves_say_what_a_colour_means(name: str) -> None:
    """No panel leaves colours to chance: they are fixed, by value, or shades of one."""
    for panel in panels(DASHBOARDS[name]):
        assert panel["fieldConfig"]["defaults"]["color"]["mode"] in {"thresholds", "shades"}
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert steps[0]["value"] is None, panel["title"]
        values = [step["value"] for step in steps[1:]]
        assert values == sorted(values), panel["title"]


@EACH
def test_glances_are_instant(name: str) -> None:
    """A number shows what is now: the last value of a range outlives the server."""
    for panel in panels(DASHBOARDS[name]):
        for target in panel["targets"]:
            assert target["instant"] is (panel["type"] != "timeseries"), panel["title"]
            assert target["range"] is not target["instant"], panel["title"]


@EACH
def test_variables(name: str) -> None:
    """The same variables everywhere; an absent namespace is matched; `up` stays in its jobs."""
    variables = {one["name"]: one for one in DASHBOARDS[name]["templating"]["list"]}

    assert list(variables) == VARIABLES
    assert variables["namespace"]["allValue"] == ".*"
    assert variables["worker"]["allValue"] == ".*"
    assert "allValue" not in variables["job"]
    single = name == "worker-saturation"
    assert variables["instance"]["multi"] is not single
    assert variables["instance"]["includeAll"] is not single


@EACH
def test_links(name: str) -> None:
    """Dashboards link each other and the runbook; panels link alerts that exist."""
    dashboard = DASHBOARDS[name]
    kinds = {link["type"]: link for link in dashboard["links"]}
    assert set(kinds["dashboards"]["tags"]) <= set(dashboard["tags"])
    assert kinds["dashboards"]["includeVars"]
    assert kinds["dashboards"]["keepTime"]
    assert kinds["link"]["url"] == "${runbook}"
    known = {f"${{runbook}}#gthreadsrv{alert.lower()}" for alert in ALERTS}
    for panel in panels(dashboard):
        assert {link["url"] for link in panel["links"]} <= known, panel["title"]


def test_drill_downs_lead_to_dashboards() -> None:
    """What a number or a table's cell links is one of the dashboards, with what was selected."""
    uids = {dashboard["uid"] for dashboard in DASHBOARDS.values()}
    found = []
    for dashboard in DASHBOARDS.values():
        for panel in panels(dashboard):
            links = list(panel["fieldConfig"]["defaults"].get("links", ()))
            for one in panel["fieldConfig"]["overrides"]:
                links += [v for p in one["properties"] if p["id"] == "links" for v in p["value"]]
            found += [link["url"] for link in links]

    assert found
    for url in found:
        match = re.match(r"/d/([a-z-]+)\?\$\{datasource:queryparam\}&", url)
        assert match, url
        assert match[1] in uids
        assert url.endswith("${__url_time_range}")
        assert "instance" in url


def test_alerts_are_those_of_the_rules_and_the_runbook() -> None:
    """What panels link is an alert that exists, at a heading of the runbook."""
    metrics = Path(__file__).parents[3] / "metrics"
    rules = (metrics / "rules" / "gthreadsrv.alerts.yml").read_text()
    headings = re.findall(
        r"^#+ Gthreadsrv(\w+)$", (metrics / "RUNBOOK.md").read_text(), re.MULTILINE
    )

    assert set(re.findall(r"alert: Gthreadsrv(\w+)", rules)) == set(ALERTS)
    assert set(headings) == set(ALERTS)


def test_every_alert_is_linked_from_a_panel() -> None:
    """Who looks at what an alert measures finds its runbook entry there."""
    linked = {
        link["title"].removeprefix("Runbook: ")
        for dashboard in DASHBOARDS.values()
        for panel in panels(dashboard)
        for link in panel["links"]
    }

    assert linked == set(ALERTS)


@EACH
def test_columns_and_series_that_have_colours_exist(name: str) -> None:
    """An override by name names a series or a column that the panel can have."""
    for panel in panels(DASHBOARDS[name]):
        legends = [target["legendFormat"] for target in panel["targets"]]
        columns: set[str] = set()
        for one in panel.get("transformations", ()):
            columns.update(one["options"].get("renameByName", {}).values())
        for one in panel["fieldConfig"]["overrides"]:
            wanted = one["matcher"]["options"]
            if one["matcher"]["id"] == "byRegexp":
                continue
            possible = columns | {text for text in legends if "{{" not in text}
            patterns = [re.sub(r"\\\{\\\{.*?\\\}\\\}", ".+", re.escape(text)) for text in legends]
            fits = wanted in possible or any(re.fullmatch(p, wanted) for p in patterns if ".+" in p)
            assert fits, (panel["title"], wanted)


def test_exemplars_are_asked_for() -> None:
    """The curves of the duration histogram ask for exemplars."""
    [panel] = [p for p in panels(DASHBOARDS["overview"]) if p["title"] == "Request duration"]

    assert all(target["exemplar"] for target in panel["targets"])


def test_empty_panels_are_few() -> None:
    """Few panels may have nothing to show, so that a hole in a dashboard means something."""
    every = [panel for dashboard in DASHBOARDS.values() for panel in panels(dashboard)]
    marked = [panel["title"] for panel in every if EMPTY_MARK in panel["description"]]

    assert len(marked) < len(every) / 4, marked


# -- colours -----------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, severity 1: what remains of linear RGB.
VISION: dict[str, tuple[tuple[float, float, float], ...]] = {
    "trichromat": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanope": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranope": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanope": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def linear(color: str) -> list[float]:
    """Linear RGB of #rrggbb."""
    parts = [byte / 255 for byte in bytes.fromhex(color[1:])]
    return [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]


def lab(color: str, vision: str) -> tuple[float, float, float]:
    """CIELAB of a colour as somebody sees it."""
    r, g, b = (
        min(1.0, max(0.0, sum(k * c for k, c in zip(row, linear(color), strict=True))))
        for row in VISION[vision]
    )

    def root(t: float) -> float:
        return t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116

    x = root((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047)
    y = root(0.2126 * r + 0.7152 * g + 0.0722 * b)
    z = root((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def colors(panel: dict[str, Any]) -> set[str]:
    """The colours that can stand side by side in a panel."""
    defaults = panel["fieldConfig"]["defaults"]
    found = {step["color"] for step in defaults["thresholds"]["steps"]}
    for one in panel["fieldConfig"]["overrides"]:
        for each in one["properties"]:
            if each["id"] == "color":
                found.add(each["value"]["fixedColor"])
            if each["id"] == "thresholds":
                found.update(step["color"] for step in each["value"]["steps"])
    return found


@pytest.mark.parametrize("vision", VISION)
def test_everybody_can_tell_the_colours_apart(vision: str) -> None:
    """Any two colours of a panel are 12 apart in CIELAB (2 is just seen), however one sees."""
    for dashboard in DASHBOARDS.values():
        for panel in panels(dashboard):
            for one, other in combinations(sorted(colors(panel)), 2):
                pairs = zip(lab(one, vision), lab(other, vision), strict=True)
                distance = sum((p - q) ** 2 for p, q in pairs) ** 0.5
                assert distance > 12, (panel["title"], one, other, distance)


def test_colours_stand_out_from_both_backgrounds() -> None:
    """Well and act are 3:1 against Grafana's dark and light panels (WCAG 1.4.11)."""
    from grafana.source import palette

    def luminance(color: str) -> float:
        return sum(k * c for k, c in zip((0.2126, 0.7152, 0.0722), linear(color), strict=True))

    for color in (palette.FINE, palette.ACT):
        for background in ("#181b1f", "#ffffff"):
            low, high = sorted((luminance(color), luminance(background)))
            assert (high + 0.05) / (low + 0.05) >= 3, (color, background)
