"""The committed rules, read: what the tests of rules and the staged situations share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml

FOLDER = Path(__file__).parents[3] / "metrics" / "rules"
RECORDING = FOLDER / "gthreadsrv.rules.yml"
ALERTS = FOLDER / "gthreadsrv.alerts.yml"
TESTS = sorted(FOLDER.glob("*_test.yml"))
RUNBOOK = FOLDER.parent / "RUNBOOK.md"

EXPECTED_ALERTS = (
    "GthreadsrvDown", "GthreadsrvNoReadyWorkers", "GthreadsrvThreadPoolSaturated",
    "GthreadsrvQueueTimeHigh", "GthreadsrvAcceptBacklogGrowing", "GthreadsrvListenerDropping",
    "GthreadsrvWorkerCrashLoop", "GthreadsrvWorkerOOMKilled", "GthreadsrvRequestStuck",
    "GthreadsrvRequestTimeouts", "GthreadsrvHighErrorRate", "GthreadsrvCPUThrottled",
    "GthreadsrvMemoryNearLimit", "GthreadsrvReloadFailed", "GthreadsrvWorkerImbalance",
    "GthreadsrvInterpreterBound", "GthreadsrvMetricFilesGrowing",
)  # fmt: skip


def load(path: Path) -> Any:
    """One YAML file."""
    return yaml.safe_load(path.read_text())


def rules_of(path: Path) -> list[dict[str, Any]]:
    """All rules of a file, whatever their group."""
    return [rule for group in load(path)["groups"] for rule in group["rules"]]


@dataclass(frozen=True)
class Selector:
    """One selection of series in an expression."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]  # label, operator, value


def nodes(expression: str) -> Iterator[promql_parser.Expr]:
    """Every node of an expression."""
    found: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(expression), found.append)
    for node in found:
        yield node
        if isinstance(node, promql_parser.MatrixSelector):
            yield node.vector_selector


def selectors(expression: str) -> list[Selector]:
    """Every selection of series in an expression."""
    operators = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
    return [
        Selector(
            node.name,
            tuple(
                (one.name, operators[str(one.op).rpartition(".")[2]], one.value)
                for one in node.matchers.matchers
            ),
        )
        for node in nodes(expression)
        if isinstance(node, promql_parser.VectorSelector)
    ]
