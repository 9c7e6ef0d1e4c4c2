"""The dashboards' panels and queries as tests look at them, with Grafana's variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser

from grafana.source.__main__ import FOLDER

EMPTY_MARK = "**Empty**"


def load() -> dict[str, dict[str, Any]]:
    """Every committed dashboard by its file's name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


@dataclass(frozen=True)
class Asked:
    """One query of one panel (or annotation, or variable)."""

    place: str
    expr: str
    may_be_empty: bool


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels that are not rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def asked(dashboard: dict[str, Any]) -> Iterator[Asked]:
    """Every query of a dashboard.

    A panel that says when it is empty may be so; of several queries the first may not, since
    the others are limits that not every machine has.
    """
    for panel in panels(dashboard):
        marked = EMPTY_MARK in panel["description"]
        for index, target in enumerate(panel["targets"]):
            may_be_empty = marked and (index > 0 or len(panel["targets"]) == 1)
            place = f"{dashboard['title']}: {panel['title']} {target['refId']}"
            yield Asked(place, target["expr"], may_be_empty)
    for one in dashboard["annotations"]["list"]:
        yield Asked(f"{dashboard['title']}: annotation {one['name']}", one["expr"], True)


def filled(expr: str, rate_interval: str = "5m", window: str = "1h", job: str = ".*") -> str:
    """A query as Grafana sends it, with everything selected."""
    values = {"__rate_interval": rate_interval, "__range": window, "job": job}
    text = re.sub(r"\$(\w+)", lambda match: values.get(match[1], ".*"), expr)
    assert "$" not in text, text
    return text


def nodes(expression: Any) -> Iterator[Any]:
    """Every part of a parsed query."""
    yield expression
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        part = getattr(expression, name, None)
        if part is not None:
            yield from nodes(part)
    for part in getattr(expression, "args", ()):
        yield from nodes(part)


def selectors(expr: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics a query names, each with the labels it is selected by."""
    for node in nodes(promql_parser.parse(filled(expr))):
        if isinstance(node, promql_parser.VectorSelector):
            yield node.name, {matcher.name for matcher in node.matchers.matchers}


def grouped(expr: str) -> set[str]:
    """The labels a query sums by or joins on."""
    found: set[str] = set()
    for node in nodes(promql_parser.parse(filled(expr))):
        modifier = getattr(node, "modifier", None)
        for name in ("labels", "matching"):
            part = getattr(modifier, name, None)
            found.update(part if isinstance(part, list) else getattr(part, "labels", None) or ())
    return found
