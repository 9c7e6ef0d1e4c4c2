"""The mixin: what jsonnet makes of it is what the files hold."""

from __future__ import annotations

import json
from typing import Any

import _jsonnet  # type: ignore[import-not-found]
import yaml

from grafana.source.__main__ import FOLDER
from tests.unit.metrics.rule_files import ALERTS, RECORDING

MIXIN = RECORDING.parents[1] / "mixin.libsonnet"
ALL = "{ rules: m.prometheusRules, alerts: m.prometheusAlerts, boards: m.grafanaDashboards }"


def made(config: str = "{}") -> dict[str, Any]:
    """The mixin's three parts with this configuration."""
    text = f"local m = (import '{MIXIN}') + {{ _config+:: {config} }}; {ALL}"
    found: dict[str, Any] = json.loads(_jsonnet.evaluate_snippet("test", text))
    return found


def test_it_is_the_files() -> None:
    """Rules, alerts and every dashboard, unchanged."""
    mixin = made()
    assert mixin["rules"] == yaml.safe_load(RECORDING.read_text())
    assert mixin["alerts"] == yaml.safe_load(ALERTS.read_text())
    boards = {
        f"gthreadsrv-{path.name}": json.loads(path.read_text()) for path in FOLDER.glob("*.json")
    }
    assert mixin["boards"] == boards


def test_the_runbook_is_where_one_publishes_it() -> None:
    """One setting makes links of all alerts' annotations; nothing else moves."""
    plain, published = made(), made("{ runbookPrefix: 'https://docs.example/' }")
    before = [rule for group in plain["alerts"]["groups"] for rule in group["rules"]]
    after = [rule for group in published["alerts"]["groups"] for rule in group["rules"]]
    assert len(after) >= 17
    for old, new in zip(before, after, strict=True):
        address = new["annotations"].pop("runbook_url")
        assert address == f"https://docs.example/{old['annotations'].pop('runbook_url')}"
        assert new == old
