"""Every query parses, names metrics and labels that exist, and every metric is on a dashboard."""

from __future__ import annotations

import re

import pytest

from gthreadsrv_metrics.catalogue import CATALOGUE
from tests.unit.grafana.queries import asked, filled, grouped, load, selectors

DASHBOARDS = load()
ASKED = [(one.place, one.expr) for board in DASHBOARDS.values() for one in asked(board)]
EACH = pytest.mark.parametrize(("place", "expr"), ASKED, ids=[place for place, _ in ASKED])

# What Prometheus adds to every sample, and what it makes itself about each scrape.
TARGET_LABELS = {"job", "namespace", "instance"}
PROMETHEUS_OWN = {
    "up": set(),
    "scrape_duration_seconds": set(),
    "scrape_samples_scraped": set(),
    "ALERTS": {"alertname", "alertstate", "severity"},
}
LABELS = {name: set(metric.labels) for metric in CATALOGUE for name in metric.series} | {
    name: {*metric.labels, "le"}
    for metric in CATALOGUE
    for name in metric.series
    if name.endswith("_bucket")
}
# A metric that is on no dashboard needs a reason here.
EXCEPTIONS: dict[str, str] = {}


@EACH
def test_it_parses_and_names_what_exists(place: str, expr: str) -> None:
    """Each metric is in the catalogue, or Prometheus' own, and has the labels it is asked by."""
    known = {**LABELS, **PROMETHEUS_OWN}
    available: set[str] = set(TARGET_LABELS)
    named = list(selectors(expr))

    assert named
    for name, labels in named:
        assert name in known
        assert labels <= known[name] | TARGET_LABELS, name
        available |= known[name]
    assert grouped(expr) <= available


@EACH
def test_it_carries_the_variables(place: str, expr: str) -> None:
    """Each selector is bound to the chosen job and instances, and all but alerts to namespaces."""
    for name, labels in selectors(expr):
        needed = {"job", "instance"} if name == "ALERTS" else TARGET_LABELS
        assert needed <= labels, name


@EACH
def test_a_rate_is_taken_before_a_sum(place: str, expr: str) -> None:
    """rate() and increase() are of plain counters, over Grafana's own interval or range."""
    windows = re.findall(r"\[([^\]]*)\]", expr)
    rated = re.findall(r"(?:rate|increase|changes)\(\w+\{[^}]*\}\[", expr)

    assert set(windows) <= {"$__rate_interval", "$__range"}
    assert len(rated) == len(windows)


@EACH
def test_only_counters_are_rated(place: str, expr: str) -> None:
    """A rate of a gauge means nothing, and a counter alone means little."""
    types = {name: metric.type for metric in CATALOGUE for name in metric.series}
    for name in re.findall(r"(?:rate|increase)\((\w+)\{", expr):
        assert types[name] in {"counter", "histogram"}, name
    for name in re.findall(r"(?<!rate\()(?<!increase\()\b(gthreadsrv_\w+)\{", expr):
        assert types[name] == "gauge", name


def test_every_metric_is_on_a_dashboard() -> None:
    """Whatever the catalogue has can be seen without writing a query."""
    seen = {name for _, expr in ASKED for name, _ in selectors(expr)}
    missing = {
        metric.full_name
        for metric in CATALOGUE
        if not seen & set(metric.series) and metric.name not in EXCEPTIONS
    }

    assert missing == set()


def test_variables_that_are_all_become_patterns() -> None:
    """Filling in leaves no variable behind (what the other tests rely on)."""
    assert filled('x{job=~"$job"}[$__rate_interval]') == 'x{job=~".*"}[5m]'
    with pytest.raises(AssertionError):
        filled("x{a=~'${b}'}")
