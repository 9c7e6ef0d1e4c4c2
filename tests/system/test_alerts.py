"""The committed rules in a real Prometheus that scrapes a real server.

Which alert fires in which situation takes minutes: `make situations` (tests/bench/situations.py).
"""

from __future__ import annotations

import math
import threading
from datetime import timedelta
from pathlib import Path

import promql_parser
import pytest

from tests.system.alerting import scaled, watched
from tests.system.conftest import Servers
from tests.system.harness import wait_until
from tests.unit.metrics.rule_files import ALERTS, RECORDING, nodes, rules_of

# Thirty times as fast as life: a scrape every half second, windows of five minutes are ten seconds.
FACTOR = 30.0
SCRAPES = 16
# What a calm server has no value for: no reload has failed, and not every machine limits memory.
ABSENT = {
    "instance:gthreadsrv_reload_failure:timestamp_seconds",
    "instance:gthreadsrv_cgroup_memory:ratio",
    # Of workers that are older than a window: longer than this test.
    "worker:gthreadsrv_requests:rate5m",
}


def durations(expression: str) -> list[timedelta]:
    """Ranges, steps and offsets, in order."""
    found: list[timedelta] = []
    for node in nodes(expression):
        for name in ("range", "step", "offset"):
            value = getattr(node, name, None)
            if isinstance(value, timedelta):
                found.append(value)
    return found


@pytest.mark.parametrize("path", [RECORDING, ALERTS], ids=lambda path: path.stem)
def test_scaling_changes_durations_and_nothing_else(path: Path, tmp_path: Path) -> None:
    """Each range, step, offset and hold time is a sixtieth; all the rest is as committed."""
    short = tmp_path / path.name
    short.write_text(scaled(path.read_text(), 60))
    assert sum(len(durations(rule["expr"])) for rule in rules_of(path)) > 10
    for before, after in zip(rules_of(path), rules_of(short), strict=True):
        assert [one * 60 for one in durations(after["expr"])] == durations(before["expr"])
        if "for" in before:
            held = promql_parser.parse_duration(after["for"])
            assert held * 60 == promql_parser.parse_duration(before["for"])
        assert {k: v for k, v in after.items() if k not in ("expr", "for")} == {
            k: v for k, v in before.items() if k not in ("expr", "for")
        }


@pytest.mark.program("prometheus")
def test_every_rule_is_evaluated_and_a_calm_server_raises_nothing(serve: Servers) -> None:
    """Health `ok` for all of them, a number from each recording rule, no alert that fires."""
    server = serve("behaviours:app", workers=2, threads=2, metrics=True)
    server.wait_ready()
    done = threading.Event()

    def client() -> None:
        while not done.wait(0.05):
            server.get("/hello")

    thread = threading.Thread(target=client)
    thread.start()
    try:
        with watched(server, serve.folder, FACTOR) as watch:
            wait_until(lambda: watch.scrapes() >= SCRAPES, what="scrapes")
            evaluated = watch.rules()
            values = {rule["record"]: watch.query(rule["record"]) for rule in rules_of(RECORDING)}
            fired = watch.fired()
    finally:
        done.set()
        thread.join()

    assert len(evaluated) == len(rules_of(RECORDING)) + len(rules_of(ALERTS))
    assert {(rule["health"], rule.get("lastError", "")) for rule in evaluated} == {("ok", "")}
    missing = {name for name, value in values.items() if value is None or math.isnan(value)}
    assert missing <= ABSENT
    assert values["instance:gthreadsrv_up:last1h"] == 1
    assert (values["instance:gthreadsrv_requests:rate5m"] or 0) > 1
    assert (values["instance:gthreadsrv_thread_utilization:ratio_rate5m"] or 1) < 0.5
    assert fired == set()


@pytest.mark.program("prometheus")
def test_an_alert_fires_in_a_real_prometheus(serve: Servers) -> None:
    """A server that is gone is down, by the rule that remembers what it was; nothing else is."""
    server = serve("behaviours:app", metrics=True)
    server.wait_ready()
    with watched(server, serve.folder, 2 * FACTOR) as watch:
        wait_until(lambda: watch.query("instance:gthreadsrv_up:last1h") == 1, what="known")
        server.kill()
        wait_until(watch.firing, what="an alert")
        assert watch.fired() == {"GthreadsrvDown"}
