"""Dashboards, their source, the catalogue, the runbook and Grafana's own types say the same."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.source.__main__ import main, rendered
from gthreadsrv_metrics.catalogue import CATALOGUE, Metric
from tests.unit.grafana.dashboard_files import FILES, FOLDER, load, panels, queries
from tests.unit.metrics.rule_files import EXPECTED_ALERTS, selectors

SERIES: dict[str, Metric] = {name: metric for metric in CATALOGUE for name in metric.series}
# Prometheus' own.
OTHERS = {"up", "ALERTS", "scrape_duration_seconds", "scrape_samples_scraped"}
TARGET_LABELS = {"job", "namespace", "instance", "le"}
EACH = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)

register_default_plugins()


def test_the_files_are_what_the_source_says(tmp_path: Path) -> None:
    """No more, no less; and the tool that says so notices a difference."""
    assert {path.name: path.read_text() for path in FILES} == rendered()
    assert main(["--check"]) == 0
    assert main(["--write", "--into", str(tmp_path)]) == 0
    (tmp_path / "overview.json").write_text("{}\n")
    assert main(["--check", "--into", str(tmp_path)]) == 1


def test_links_lead_to_a_runbook_elsewhere(tmp_path: Path) -> None:
    """Whoever keeps the runbook on a wiki has links to there."""
    main(["--write", "--into", str(tmp_path), "--runbook", "http://wiki.example/runbook"])
    assert "http://wiki.example/runbook" in (tmp_path / "overview.json").read_text()


@EACH
def test_panels_have_a_place_of_their_own(path: Path) -> None:
    """Ids and titles are unique, nothing overlaps, nothing is wider than the page."""
    every = load(path)["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    titles = [panel["title"] for panel in panels(path)]
    assert len(set(titles)) == len(titles)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = set(
            itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"]))
        )
        assert not cells & taken, panel["title"]
        taken |= cells


@EACH
def test_a_panel_says_what_it_shows_and_what_to_do(path: Path) -> None:
    """With a unit, from the chosen data source, on every query."""
    for panel in panels(path):
        shows, _, do = panel["description"].partition("**What to do:**")
        assert len(shows.split()) >= 4, panel["title"]
        assert len(do.split()) >= 4, panel["title"]
        units = [panel["fieldConfig"]["defaults"].get("unit")] + [
            one["value"]
            for override in panel["fieldConfig"]["overrides"]
            for one in override["properties"]
            if one["id"] == "unit"
        ]
        assert any(units), panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(one["datasource"]["uid"] == "${datasource}" for one in panel["targets"])


@EACH
def test_links_to_the_runbook_name_alerts_that_exist(path: Path) -> None:
    """By their anchors."""
    anchors = re.findall(r"\$\{runbook\}#(\w+)", path.read_text())
    assert set(anchors) <= {name.lower() for name in EXPECTED_ALERTS}


def test_links_between_dashboards_lead_to_one_that_exists() -> None:
    """By their ids."""
    ids = {load(path)["uid"] for path in FILES}
    assert len(ids) == len(FILES)
    for path in FILES:
        assert set(re.findall(r"/d/([\w-]+)", path.read_text())) <= ids


def test_every_alert_can_be_reached_from_a_panel() -> None:
    """Whoever looks at what an alert is about finds its entry."""
    text = "".join(path.read_text() for path in FILES)
    missing = [name for name in EXPECTED_ALERTS if f"#{name.lower()}" not in text]
    assert missing == []


def test_every_query_parses_and_asks_for_what_exists() -> None:
    """Metrics of the catalogue, with the labels and label values they have."""
    count = 0
    for query in queries():
        count += 1
        for one in selectors(query.expression):
            if one.name in OTHERS:
                continue
            metric = SERIES[one.name]
            for label, operator, value in one.matchers:
                assert label in {*metric.labels, *TARGET_LABELS}, (query.name, label)
                known = dict(metric.values).get(label)
                if known and value not in {".*", ""} and operator in {"=", "=~"}:
                    assert set(value.split("|")) <= set(known), (query.name, value)
    assert count > 50


def test_every_metric_is_on_a_dashboard() -> None:
    """What is measured can be seen."""
    shown = {one.name for query in queries() for one in selectors(query.expression)}
    names = {metric.full_name for metric in CATALOGUE if not shown & set(metric.series)}
    assert names == set()


def _lost(before: Any, after: Any, at: str = "") -> Iterator[str]:
    """Paths of what is in one and not in the other."""
    if isinstance(before, dict):
        for key, value in before.items():
            if not isinstance(after, dict) or key not in after:
                # The types leave out what is empty or the default.
                if value not in (None, "", [], {}, False, 0):
                    yield f"{at}.{key}"
            else:
                yield from _lost(value, after[key], f"{at}.{key}")
    elif isinstance(before, list):
        if not isinstance(after, list) or len(before) != len(after):
            yield at
        else:
            for index, pair in enumerate(zip(before, after, strict=True)):
                yield from _lost(*pair, f"{at}[{index}]")
    elif before != after:
        yield f"{at}: {before!r} became {after!r}"


@EACH
def test_grafanas_own_types_know_every_field(path: Path) -> None:
    """Read and written again by the foundation SDK, nothing is lost."""
    before = load(path)
    for annotation in before["annotations"]["list"]:
        # The Prometheus data source's own fields, which the SDK's type of all sources lacks.
        for field in ("titleFormat", "textFormat", "step"):
            assert annotation.pop(field)
    for variable in before["templating"]["list"]:
        # What Grafana's editor shows of the query; its JSON has it, the SDK's type has not.
        variable.pop("definition", None)
    after = json.loads(json.dumps(Dashboard.from_json(before), cls=JSONEncoder))
    assert list(_lost(before, after)) == []


def test_provisioning_files_are_whole() -> None:
    """Grafana finds a data source and the dashboards."""
    [source] = (FOLDER / "provisioning" / "datasources").glob("*.yml")
    [provider] = (FOLDER / "provisioning" / "dashboards").glob("*.yml")
    assert yaml.safe_load(source.read_text())["datasources"][0]["type"] == "prometheus"
    options = yaml.safe_load(provider.read_text())["providers"][0]["options"]
    assert options["path"].startswith("/etc/grafana/")
