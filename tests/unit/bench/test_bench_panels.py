"""The check of what dashboards show can fail: by a value, by silence and by a refusal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.bench import panels

PLACE = "Overview: Errors A"


class Answers:
    """A Prometheus with one answer to everything."""

    def __init__(self, *series: list[str], refuses: bool = False) -> None:
        result = [{"values": [[0, value] for value in values]} for values in series]
        self.body = None if refuses else json.dumps({"data": {"result": result}})
        self.asked: list[dict[str, Any]] = []

    def get(self, path: str, **parameters: str) -> Any:
        self.asked.append(parameters)
        return self.body


def found(watch: Answers, least: float) -> list[str]:
    """The faults of a situation that shows on one panel."""
    return list(panels.faults(watch, {PLACE: least}, 100.0, 160.0, 60.0))  # type: ignore[arg-type]


def test_a_value_above_is_seen() -> None:
    """One of any series at any time is enough; NaN is none."""
    watch = Answers(["0", "NaN", "0.2"], ["0"])
    assert found(watch, 0.1) == []
    assert len(watch.asked) == len(panels.QUERIES)
    assert watch.asked[0] | {"query": ""} == {
        "query": "", "start": "100.0", "end": "160.0", "step": "0.25",
    }  # fmt: skip
    assert all("$" not in one["query"] for one in watch.asked)
    assert any("[1000ms]" in one["query"] for one in watch.asked)


@pytest.mark.parametrize("series", [[], [["NaN"]], [["0.1", "0"]]])
def test_what_stays_below_is_not(series: list[list[str]]) -> None:
    """Nothing, no number, or too little."""
    [fault] = found(Answers(*series), 0.1)
    assert fault.startswith(f"{PLACE}: at most ")


def test_a_refused_query_is_told_of_every_panel() -> None:
    """Also of those on which the situation is not to be seen."""
    assert len(found(Answers(refuses=True), 0.1)) == len(panels.QUERIES)
