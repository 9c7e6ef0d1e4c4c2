"""Rules, runbook, catalogue and promtool tests say the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import promql_parser
import pytest

from gthreadsrv.settings.table import TABLE
from gthreadsrv_metrics.catalogue import CATALOGUE, Metric
from tests.conftest import SEARCH_PATH
from tests.unit.metrics.rule_files import (
    ALERTS,
    EXPECTED_ALERTS,
    FOLDER,
    RECORDING,
    RUNBOOK,
    TESTS,
    load,
    nodes,
    rules_of,
    selectors,
)

SERIES: dict[str, Metric] = {name: metric for metric in CATALOGUE for name in metric.series}
RECORDED = [rule["record"] for rule in rules_of(RECORDING)]
EXPRESSIONS = [rule["expr"] for rule in [*rules_of(RECORDING), *rules_of(ALERTS)]]
# What Prometheus and sites attach to a target; never ours to choose a value of.
TARGET_LABELS = {"cluster", "namespace", "job", "instance"}
OUR_LABELS = {label for metric in CATALOGUE for label in metric.labels} | {"le"}


def test_the_alerts_are_those_that_were_promised() -> None:
    """Each of the list is there, and no other."""
    assert {rule["alert"] for rule in rules_of(ALERTS)} == set(EXPECTED_ALERTS)


@pytest.mark.parametrize("rule", rules_of(ALERTS), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_how_much_and_what_to_do(rule: dict[str, object]) -> None:
    """Severity, summary, description with the number and the target, and a link to its entry."""
    assert rule["labels"] in [{"severity": name} for name in ("critical", "warning", "info")]
    said = rule["annotations"]
    assert isinstance(said, dict)
    assert set(said) == {"summary", "description", "runbook_url"}
    assert said["runbook_url"] == f"metrics/RUNBOOK.md#{str(rule['alert']).lower()}"
    assert "$labels.job" in said["description"]
    per_service = rule["alert"] == "GthreadsrvHighErrorRate"
    assert ("$labels.instance" in said["description"]) is not per_service
    # Down is either so or not.
    assert ("$value" in said["description"]) is (rule["alert"] != "GthreadsrvDown")


def test_the_runbook_has_one_entry_for_each_alert() -> None:
    """With its four parts, in this order."""
    parts = re.split(r"^## (.*)$", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]
    entries = dict(zip(parts[::2], parts[1::2], strict=True))
    assert len(entries) == len(parts) // 2
    assert set(entries) == set(EXPECTED_ALERTS)
    for name, entry in entries.items():
        found = re.findall(r"^\*\*(\w+)\.\*\*", entry, flags=re.MULTILINE)
        assert found == ["Meaning", "See", "Do", "Threshold"], name


def test_the_links_inside_the_runbook_lead_somewhere() -> None:
    """Anchors are alerts, files exist."""
    text = RUNBOOK.read_text()
    for anchor in re.findall(r"\]\(#(.*?)\)", text):
        assert anchor in [name.lower() for name in EXPECTED_ALERTS]
    for target in re.findall(r"\]\(([^#)]+)\)", text):
        assert (RUNBOOK.parent / target).exists(), target


@pytest.mark.parametrize(
    "path", [RUNBOOK, ALERTS, FOLDER / "README.md"], ids=lambda path: path.name
)
def test_texts_name_only_metrics_and_settings_that_exist(path: Path) -> None:
    """What an alert or the runbook tells to look at or to change is there."""
    text = path.read_text()
    flags = {flag for setting in TABLE for flag in setting.flags}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", text)) <= flags
    # A ratio by window is given once in full and then by its end; a rule's parts begin with its level.
    names = set(re.findall(r"(?<!\w)(?:\w+:)?gthreadsrv_(?!metrics\b)[a-z_0-9]+(?::\w+)?", text))
    assert names - set(SERIES) - set(RECORDED) - {m.full_name for m in CATALOGUE} == set()


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=range(len(EXPRESSIONS)))
def test_an_expression_selects_what_is_exported(expression: str) -> None:
    """Metrics of the catalogue, labels each of them has, values these labels take; no target."""
    for selector in selectors(expression):
        if selector.name == "up" or selector.name in RECORDED:
            assert selector.matchers == ()
            continue
        metric = SERIES[selector.name]
        for label, operator, value in selector.matchers:
            assert label in metric.labels, f"{selector.name} has no {label}"
            values = value.split("|") if operator in ("=~", "!~") else [value]
            assert set(values) <= set(metric.values[label]), f"{label} is never {value}"


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=range(len(EXPRESSIONS)))
def test_an_expression_takes_away_our_labels_and_keeps_the_targets(expression: str) -> None:
    """`without` and `ignoring` name ours, `by` and `on` a service's or an instance's."""
    for node in nodes(expression):
        modifier = getattr(node, "modifier", None)
        if isinstance(node, promql_parser.BinaryExpr):
            modifier = modifier and modifier.matching
        if modifier is None or not modifier.labels:
            assert not isinstance(node, promql_parser.AggregateExpr), "all labels are lost"
            continue
        kind = str(modifier.type).rpartition(".")[2]
        if kind in ("Without", "Exclude"):
            assert set(modifier.labels) <= OUR_LABELS
        else:
            assert {"cluster", "namespace", "job"} <= set(modifier.labels) <= TARGET_LABELS


def test_recorded_names_follow_the_convention() -> None:
    """level:metric:operation, and a level that the rule really has."""
    assert len(set(RECORDED)) == len(RECORDED)
    for rule in rules_of(RECORDING):
        level, metric, operation = rule["record"].split(":")
        assert level in ("instance", "worker", "job")
        assert metric.startswith("gthreadsrv_")
        assert re.fullmatch(r"[a-z0-9_]+", operation)
        assert (level == "job") is ("by (cluster, namespace, job)" in rule["expr"] or
                                    "job:" in rule["expr"])  # fmt: skip


def test_each_recorded_name_is_used_or_documented() -> None:
    """The table in rules/README.md has them all; ratios by window share a line."""
    text = (FOLDER / "README.md").read_text()
    for name in RECORDED:
        short = f"`..._{name.rpartition('_')[2]}`"
        assert f"`{name}`" in text or (short in text and "errors:ratio" in name), name
    used = {selector.name for expression in EXPRESSIONS for selector in selectors(expression)}
    by_people = set(RECORDED) - used
    assert all(f"`{name}`" in text for name in by_people)
    assert {name for name in used if ":" in name} <= set(RECORDED)


def test_each_alert_has_a_test_that_fires_it_and_one_that_keeps_it_quiet() -> None:
    """Quiet with series to look at, not for want of any."""
    fired: defaultdict[str, set[str]] = defaultdict(set)
    quiet: defaultdict[str, set[str]] = defaultdict(set)
    for path in TESTS:
        for test in load(path)["tests"]:
            named = {re.split(r"[{\s]", one["series"])[0] for one in test["input_series"]}
            assert named <= set(SERIES) | {"up"}, path.name
            by_alert: defaultdict[str, list[list[object]]] = defaultdict(list)
            for check in test.get("alert_rule_test", []):
                by_alert[check["alertname"]].append(check["exp_alerts"])
            for alert, expected in by_alert.items():
                if any(expected):
                    fired[alert].update(
                        one["exp_labels"]["severity"] for x in expected for one in x
                    )
                else:
                    quiet[alert].add(test["name"])
    assert set(fired) == set(quiet) == set(EXPECTED_ALERTS)
    for rule in rules_of(ALERTS):
        assert rule["labels"]["severity"] in fired[rule["alert"]]


def test_each_recorded_value_is_tested() -> None:
    """Each name is asked for in one of promtool's tests of expressions."""
    asked = {
        selector.name
        for path in TESTS
        for test in load(path)["tests"]
        for check in test.get("promql_expr_test", [])
        for selector in selectors(check["expr"])
    }
    assert set(RECORDED) <= asked


def promtool(*arguments: str | Path) -> str:
    """Run it; what it said, if it was content."""
    program = shutil.which("promtool", path=SEARCH_PATH)
    assert program is not None
    command: Sequence[str | Path] = [program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.program("promtool")
def test_promtool_takes_the_rules() -> None:
    """`promtool check rules` counts them all."""
    said = promtool("check", "rules", RECORDING, ALERTS)
    assert f"{len(rules_of(ALERTS))} rules found" in said
    assert f"{len(RECORDED)} rules found" in said


@pytest.mark.program("promtool")
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_promtool_tests(path: Path) -> None:
    """`promtool test rules`: what fires, what is quiet, and every recorded value."""
    promtool("test", "rules", path)
