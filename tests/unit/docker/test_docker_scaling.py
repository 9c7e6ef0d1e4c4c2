"""docker/SCALING.md: its sums are recomputed, and the models behind it are checked."""

from __future__ import annotations

import math
import re

import pytest

from gthreadsrv_metrics.catalogue import CATALOGUE
from tests.simulation import pods, queueing
from tests.simulation.hpa import TARGET, Autoscaler
from tests.simulation.pods import DOCUMENT, SMALL, block, example, row, settle
from tests.simulation.queueing import ServiceTimes, mean_wait_s, recorded, waiting_share
from tests.unit.docker.files import manifests

TEXT = DOCUMENT.read_text()
HPA = manifests()["horizontalpodautoscaler"]["spec"]


def test_the_worked_example_is_what_the_formulas_say() -> None:
    """Each number of it; else: make simulate-pods SIMULATE=--write."""
    assert block(TEXT, "example")[1].rstrip("\n") == example()


def test_the_simulated_fleets_are_the_models() -> None:
    """The small one of the table, run again; the large ones take minutes."""
    lines = block(TEXT, "fleets")[1].splitlines()
    assert row(settle(*SMALL)) in lines


def test_the_documents_metrics_exist() -> None:
    """Every name in it is in the catalogue."""
    known = {name for metric in CATALOGUE for name in (metric.full_name, *metric.series)}
    assert set(re.findall(r"gthreadsrv_[a-z_]+", TEXT)) - known == set()


@pytest.mark.parametrize(
    ("servers", "offered", "share"),
    [(1, 0.5, 0.5), (1, 0.9, 0.9), (2, 1.0, 1 / 3), (5, 4.0, 0.5541), (3, 3.0, 1.0), (2, 0.0, 0.0)],
)
def test_erlangs_formula(servers: int, offered: float, share: float) -> None:
    """Known values: with one server it is the utilisation; from the tables for the others."""
    assert waiting_share(servers, offered) == pytest.approx(share, abs=1e-4)


def test_waits() -> None:
    """M/M/1 waits rho / (1 - rho) service times, fixed times half of it, an overload for ever."""
    assert mean_wait_s(1, 0.8, ServiceTimes(1.0, 2.0)) == pytest.approx(4.0)
    assert mean_wait_s(1, 0.8, ServiceTimes(1.0, 1.0)) == pytest.approx(2.0)
    assert mean_wait_s(2, 2.0, ServiceTimes(1.0, 2.0)) == math.inf


def test_what_the_document_says_of_the_recorded_times() -> None:
    """Their variation, and what it makes of a wait."""
    variation = recorded().variation
    assert f"variation {variation:.2f})" in TEXT
    assert f"makes waits {(1 + variation) / 2:.1f}\ntimes as long" in TEXT


def test_the_autoscaler_is_the_one_of_the_manifests() -> None:
    """Target, bounds and behaviour."""
    model = Autoscaler()
    assert HPA["metrics"][0]["pods"]["target"]["averageValue"] == f"{round(1000 * model.target)}m"
    assert (HPA["minReplicas"], HPA["maxReplicas"]) == (model.least, model.most)
    up, down = HPA["behavior"]["scaleUp"], HPA["behavior"]["scaleDown"]
    assert up["stabilizationWindowSeconds"] == 0
    assert [(one["value"], one["periodSeconds"]) for one in up["policies"]] == [(100, 30), (4, 30)]
    assert down["stabilizationWindowSeconds"] == model.down_window_s
    assert [(one["value"], one["periodSeconds"]) for one in down["policies"]] == [(10, 60)]


def test_the_extrapolation_is_a_straight_line() -> None:
    """Through the first and the last measurement, and the sums made of it."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in TEXT.splitlines()
        if re.match(r"\| [\d,]+(, extrapolated)? \| [\d,]+ \| [\d,]+ \| \d+ MB", line)
    ]
    rows = [[float(re.sub(r"[^\d.]", "", cell)) for cell in line] for line in cells]
    first, *_, last, line = rows
    assert line[0] == 1000
    for column in (1, 2, 3, 4):
        slope = (last[column] - first[column]) / (last[0] - first[0])
        assert line[column] == pytest.approx(first[column] + slope * (1000 - first[0]), rel=0.02)
    bytes_a_series = 1e6 * (last[3] - first[3]) / (last[1] - first[1])
    assert f"memory is {bytes_a_series / 1000:.1f} KB a\nseries" in TEXT
    gigabytes = line[2] * 86400 * 1.5 / 1e9
    assert f"x 86,400 x 1.5 B = {gigabytes:.1f} GB a day" in TEXT
    assert f"5.1 KB / 15 s = {1000 * 5.1 / 15:.0f} KB a\nsecond" in TEXT


# The documented algorithm: desired = ceil(current x metric / target), and its exceptions.


@pytest.mark.parametrize(
    ("gauges", "starting", "wanted"),
    [
        ([TARGET] * 10, 0, 10),  # on target
        ([0.70] * 10, 0, 10),  # within the tolerance
        ([0.80] * 10, 0, 13),  # ceil(10 x 0.8 / 0.65)
        ([1.00] * 10, 0, 16),
        ([1.00] * 10, 6, 16),  # the six count as idle: 10 / 16 is near enough
        ([1.00] * 10, 2, 16),  # 10 / 12 is not
        ([0.30] * 10, 0, 10),  # down: not before the window is over, and then a tenth a minute
        ([], 3, 3),  # nothing is known
    ],
)
def test_one_look(gauges: list[float], starting: int, wanted: int) -> None:
    """One recommendation of an autoscaler that has just been started with a full window."""
    model = Autoscaler(least=1)
    model.replicas(0, [TARGET] * (len(gauges) + starting), 0)
    assert model.replicas(15, gauges, starting) == wanted


def test_going_down_is_slow() -> None:
    """For five minutes nothing, then a tenth a minute."""
    model = Autoscaler(least=1)
    count, seen = 100, []
    for now in range(0, 900, 15):
        count = model.replicas(now, [TARGET if now < 15 else 0.1] * count, 0)
        seen.append(count)
    assert set(seen[: 300 // 15]) == {100}
    assert seen[300 // 15] == 90
    assert seen[(300 + 60) // 15] == 81


def test_going_up_is_bounded() -> None:
    """Twice as many in thirty seconds, or four more where that is more."""
    model = Autoscaler(target=0.1)
    assert model.replicas(15, [1.0] * 10, 0) == 20
    assert Autoscaler(target=0.1).replicas(15, [1.0] * 3, 0) == 7


def test_a_quiet_fleet_stays_where_it_is() -> None:
    """The load it is made for moves nothing, and nobody waits."""
    course = pods.simulate(lambda _: pods.rate_for(10), 10, 600, Autoscaler())
    assert set(course.pods) == {10}
    assert max(course.wait_s) < 0.1


def test_work_is_neither_lost_nor_made() -> None:
    """What came in was done or waits."""
    pod = pods.Pod(0, 0)
    for now in range(1, 15):
        pod.step(7.0, now)
    assert pod.busy_s == 14 * pods.THREADS
    assert pod.waiting_s == pytest.approx(14 * (7.0 - pods.THREADS))
    pod.step(0.0, 15)
    assert pod.utilisation == 1.0


def test_the_example_has_what_it_assumes() -> None:
    """Threads run out before CPUs do."""
    one = queueing.Example()
    assert one.pod_threads / one.pod_cpus <= one.threads_per_cpu
