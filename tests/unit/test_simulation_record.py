"""The recorder of service times: what it makes of a log, and a few seconds of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.simulation.queueing import RECORDED
from tests.simulation.record import QUANTILES, WHAT, durations_ms, load_script, main, quantiles


def test_the_committed_file_is_one_of_its_own() -> None:
    """In form; the numbers are another machine's."""
    found = json.loads(RECORDED.read_text())
    assert found["what"] == WHAT
    assert len(found["milliseconds"]) == QUANTILES
    assert found["milliseconds"] == sorted(found["milliseconds"])


def test_quantiles_keep_the_mean() -> None:
    """Of as many values as there are, each is one; of fewer some come again, of more some are left."""
    values = [float(number) for number in range(QUANTILES)]
    assert quantiles(reversed(values)) == values
    assert quantiles([1.0, 3.0]) == [1.0] * (QUANTILES // 2) + [3.0] * (QUANTILES // 2)
    many = [math.exp(number / 1000) for number in range(7001)]
    found = quantiles(many)
    assert sum(found) / QUANTILES == pytest.approx(sum(many) / len(many), rel=0.001)
    with pytest.raises(ValueError, match="no request"):
        quantiles([])


def test_durations_are_the_logs() -> None:
    assert list(durations_ms(['{"duration":0.040123,"status":200}'])) == [pytest.approx(40.123)]


def test_a_recording_is_the_demo_under_its_load(tmp_path: Path) -> None:
    """Three seconds: the share that waits for 40 ms is on top, the fast half below."""
    assert dict(load_script().ROUTES)["/slow?ms=40"] == 350, "of a thousand"
    path = tmp_path / "times.json"
    assert main(["--seconds", "3", "--into", str(path)]) == 0
    found = json.loads(path.read_text())
    assert set(found) == {"what", "milliseconds"}
    assert len(found["milliseconds"]) == QUANTILES
    assert found["milliseconds"][QUANTILES * 3 // 10] < 40 <= found["milliseconds"][-QUANTILES // 5]
