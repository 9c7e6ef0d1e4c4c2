"""The simulation of pods that scale their workers: its pod, and docker/SCALING.md's table."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gthreadsrv.master.autoscale import Bounds
from tests.conftest import SEARCH_PATH
from tests.simulation import elastic
from tests.simulation.autoscale.fleet import Fleet
from tests.simulation.elastic import (
    CALM_S,
    KINDS,
    SIZES,
    THREADS,
    Kind,
    Pod,
    of_most,
    outcome,
    past,
    row,
    utilisation,
)
from tests.simulation.hpa import SCRAPE_S, TARGET, TOLERANCE
from tests.simulation.pods import DOCUMENT, block
from tests.simulation.queueing import RECORDED, recorded
from tests.unit.docker.files import manifests
from tests.unit.metrics.rule_files import selectors

TEXT = DOCUMENT.read_text()
TABLE = block(TEXT, "elastic")[1].splitlines()
FIXED, RANGE = Bounds(2, 2, CALM_S), Bounds(1, 4, CALM_S)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.name} by {kind.by}")
def test_the_table_is_the_models(kind: Kind) -> None:
    """The smallest fleets, run again; the large ones take minutes."""
    assert row(kind, SIZES[0]) in TABLE


def test_the_table_is_whole() -> None:
    """A line for each size and kind, and the two the text names."""
    assert len(TABLE) == 2 + len(SIZES) * len(KINDS)
    by_gauge, by_most = TABLE[-2:]
    busy, pods, workers, fewer = re.search(  # type: ignore[union-attr]
        r"at ([\d,]+) busy threads (\d+) pods of (\w+) workers stay\s+where (\d+) of four", TEXT
    ).groups()
    assert workers == "three"
    assert by_gauge.startswith(f"| {busy} | `1:4` | utilisation |")
    assert f"| {pods} x 3.0 at " in by_gauge
    assert f"| {fewer} x 4.0 at " in by_most


def test_fewer_are_late_with_fixed_workers() -> None:
    """And a range saves worker seconds, as the text says."""
    _, fixed, by_gauge, by_most = (outcome(kind, SIZES[0]) for kind in KINDS)
    assert fixed.late < by_gauge.late
    assert fixed.late < by_most.late
    assert by_most.worker_s < fixed.worker_s
    assert by_gauge.pod_s > by_most.pod_s


def test_what_the_range_saves() -> None:
    """From the table's last column, by the line of four workers."""
    seconds = [int(line.split("|")[-2].replace(",", "")) for line in TABLE[2:]]
    saved = [
        100 * (1 - seconds[at + more] / seconds[at])
        for at in range(1, len(seconds), len(KINDS))
        for more in (1, 2)
    ]
    low, high = re.search(r"saves (\d+) to (\d+) in a\s+hundred worker", TEXT).groups()  # type: ignore[union-attr]
    assert (round(min(saved)), round(max(saved))) == (int(low), int(high))


def test_the_difference_is_how_new_pods_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were they given all workers at once, as many would be late as with fixed ones."""

    class Full(Pod):
        def __init__(self, bounds: Bounds, ready_at: float, phase: int) -> None:
            super().__init__(bounds, ready_at, phase)
            self.target = self.ready = bounds.most

    fixed = outcome(KINDS[1], SIZES[0])
    monkeypatch.setattr(elastic, "Pod", Full)
    full = elastic.run(KINDS[2], SIZES[0] // 2, SIZES[0] * 2 * THREADS * TARGET)
    assert full.late == pytest.approx(fixed.late, abs=0.001)


# A pod with half of its workers, one of which is leaving; one that has all; and two that are none of
# this deployment's.
QUERY_TEST = """
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - {series: 'gthreadsrv_thread_utilization_ratio{namespace="default",job="gthreadsrv",pod="p"}', values: '0.6 0.6'}
      - {series: 'gthreadsrv_workers{namespace="default",job="gthreadsrv",pod="p",state="ready"}', values: '2 2'}
      - {series: 'gthreadsrv_workers{namespace="default",job="gthreadsrv",pod="p",state="draining"}', values: '1 1'}
      - {series: 'gthreadsrv_config_max_workers{namespace="default",job="gthreadsrv",pod="p"}', values: '4 4'}
      - {series: 'gthreadsrv_thread_utilization_ratio{namespace="default",job="gthreadsrv",pod="q"}', values: '0.5 0.5'}
      - {series: 'gthreadsrv_workers{namespace="default",job="gthreadsrv",pod="q",state="ready"}', values: '4 4'}
      - {series: 'gthreadsrv_config_max_workers{namespace="default",job="gthreadsrv",pod="q"}', values: '4 4'}
      - {series: 'gthreadsrv_thread_utilization_ratio{namespace="b",job="gthreadsrv",pod="p"}', values: '0.9 0.9'}
      - {series: 'gthreadsrv_workers{namespace="b",job="gthreadsrv",pod="p",state="ready"}', values: '4 4'}
      - {series: 'gthreadsrv_config_max_workers{namespace="b",job="gthreadsrv",pod="p"}', values: '4 4'}
      - {series: 'gthreadsrv_thread_utilization_ratio{namespace="default",job="other",pod="r"}', values: '0.9 0.9'}
      - {series: 'gthreadsrv_workers{namespace="default",job="other",pod="r",state="ready"}', values: '4 4'}
      - {series: 'gthreadsrv_config_max_workers{namespace="default",job="other",pod="r"}', values: '4 4'}
    promql_expr_test:
      - {expr: %s, eval_time: 15s, exp_samples: %s}
"""


def written(name: str) -> str:
    """A query of the document, under this name."""
    found = re.search(rf"^      {name}: >-\n(?:        .*\n)+", TEXT, re.MULTILINE)
    assert found is not None
    return str(yaml.safe_load(found[0])[name])


def asks(tmp_path: Path, query: str, answers: dict[str, float]) -> None:
    """The query has these answers, by their labels."""
    samples = [{"labels": labels, "value": value} for labels, value in answers.items()]
    path = tmp_path / "query.yml"
    path.write_text(QUERY_TEST % (json.dumps(query), json.dumps(samples)))
    program = shutil.which("promtool", path=SEARCH_PATH)
    assert program is not None
    done = subprocess.run([program, "test", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.program("promtool")
def test_the_adapters_query(tmp_path: Path) -> None:
    """As prometheus-adapter fills it in: a pod with half its workers counts half."""
    query = written("metricsQuery")
    for name, value in {
        "GroupBy": "pod",
        "Series": "gthreadsrv_thread_utilization_ratio",
        "LabelMatchers": 'namespace="default",pod=~"p|q"',
    }.items():
        query = query.replace(f"<<.{name}>>", value)
    asks(tmp_path, query, {'{pod="p"}': 0.3, '{pod="q"}': 0.5})


@pytest.mark.program("promtool")
def test_kedas_query(tmp_path: Path) -> None:
    """The sum of what the adapter says of this deployment's pods, and of no others."""
    asks(tmp_path, written("query"), {"{}": 0.8})


def test_kedas_query_is_the_manifests_with_another_factor() -> None:
    """The same pods are asked for, so that only what is counted differs."""
    trigger = manifests()["scaledobject"]["spec"]["triggers"][0]["metadata"]["query"]
    [gauge] = selectors(trigger)
    assert gauge in selectors(written("query"))


def alone(bounds: Bounds, busy: float, seconds: int) -> Pod:
    """One pod with so many busy threads on the mean, scraped every quarter of a minute."""
    times, chance = recorded(), random.Random(1)
    pod = Pod(bounds, 0.0, 0)
    work_s = busy / 2
    requests = work_s / times.mean_s
    for tick in range(1, 2 * seconds + 1):
        some_s = chance.gauss(work_s, math.sqrt(requests * times.square_s2))
        pod.step(max(0.0, some_s), requests, work_s, tick / 2)
        if tick % (2 * SCRAPE_S) == 0:
            pod.scrape()
    return pod


def by_requests(bounds: Bounds, busy: float, seconds: int) -> tuple[Fleet, float, float]:
    """The same request by request: the queue, its workers on the mean, the share that is late."""
    times = [ms / 1000 for ms in json.loads(RECORDED.read_text())["milliseconds"]]
    chance = random.Random(1)

    def arrivals() -> Iterator[tuple[float, float]]:
        at = 0.0
        while (at := at + chance.expovariate(busy / recorded().mean_s)) < seconds:
            yield at, chance.choice(times)

    fleet = Fleet(bounds, THREADS)
    found = fleet.run(arrivals())
    return fleet, found.worker_seconds / seconds, found.late / found.requests


@pytest.mark.parametrize(
    ("bounds", "busy"),
    [(FIXED, 3.9), (FIXED, 4.8), (RANGE, 2.0), (RANGE, 3.9), (RANGE, 6.0)],
    ids=str,
)
def test_a_pod_is_a_queue_of_requests(bounds: Bounds, busy: float) -> None:
    """Work in half seconds gives the workers and waits that its requests do, near enough."""
    seconds = 300
    pod = alone(bounds, busy, seconds)
    fleet, workers, late = by_requests(bounds, busy, seconds)
    assert pod.worker_s / seconds == pytest.approx(workers, abs=0.4)
    assert pod.late / pod.started == pytest.approx(late, abs=0.01)
    assert pod.wait_s / pod.started == pytest.approx(fleet.wait_s / fleet.started, abs=0.02)


def test_the_inner_loop_hides_a_rise() -> None:
    """Six and a half busy threads: two workers are saturated, a range answers, and its gauge is in order."""
    fixed, ranged = alone(FIXED, 6.5, 60), alone(RANGE, 6.5, 60)
    assert utilisation(fixed) == 1.0
    assert ranged.ready == RANGE.most
    gauge = utilisation(ranged)
    assert gauge is not None
    assert gauge < TARGET * (1 - TOLERANCE)


def test_the_share_of_the_most_knows_the_workers_that_are_not_there() -> None:
    """One worker of four is at work: a quarter of the gauge; with a fixed number both are one."""
    ranged, fixed = alone(RANGE, 1.0, 60), alone(FIXED, 3.0, 60)
    assert ranged.ready == 1
    assert of_most(ranged) == pytest.approx(1.0 / 12, rel=0.2)
    assert of_most(fixed) == utilisation(fixed)


def test_work_is_neither_lost_nor_made() -> None:
    """What came in was done or waits, whatever the workers do."""
    pod = alone(RANGE, 14.0, 30)
    pod.step(0.0, 0.0, 0.0, 30.5)
    assert pod.waiting_s > 0
    came_s = pod.started * recorded().mean_s
    assert pod.busy_s + pod.waiting_s == pytest.approx(came_s, rel=0.02)


@pytest.mark.parametrize(
    ("first", "last", "share"),
    [(0.0, 0.0, 0.0), (0.2, 0.3, 1.0), (0.0, 0.2, 0.5), (0.2, 0.0, 0.5), (0.1, 0.1, 0.0)],
)
def test_the_part_of_a_line_above(first: float, last: float, share: float) -> None:
    """Waits go up or down evenly within a step."""
    assert past(first, last, 0.1) == pytest.approx(share)
