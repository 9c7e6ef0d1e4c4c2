"""The situations' own table: every alert and every panel they name exists."""

from __future__ import annotations

import pytest

from tests.bench.panels import QUERIES, SHOWN_BY
from tests.bench.situations import SITUATIONS, Situation
from tests.unit.metrics.rule_files import EXPECTED_ALERTS


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.name)
def test_a_situation_names_what_there_is(situation: Situation) -> None:
    """Alerts and panels by their names, and each situation is to be seen on some panel."""
    assert situation.expected <= set(EXPECTED_ALERTS)
    assert SHOWN_BY[situation.name]
    assert set(SHOWN_BY[situation.name]) <= set(QUERIES)


def test_every_alert_has_a_situation_of_its_own() -> None:
    """In which it must fire, while it is silent in all others."""
    own = [f"Gthreadsrv{name}" for one in SITUATIONS for name in one.own]
    assert sorted(own) == sorted(EXPECTED_ALERTS)
