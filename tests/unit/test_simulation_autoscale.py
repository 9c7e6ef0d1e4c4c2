"""The simulation of autoscaling: its queue, and the README's table."""

from __future__ import annotations

from pathlib import Path

import pytest

from gthreadsrv.master.autoscale import Bounds
from tests.simulation.autoscale.fleet import LATE_S, THREADS, Fleet
from tests.simulation.autoscale.shapes import SHAPES, Shape
from tests.simulation.autoscale.table import LEAST, MOST, SIZES, outcome, updated

README = Path(__file__).parents[2] / "README.md"
FIXED = Bounds(1, 1, 60.0)


def test_the_readmes_table_is_what_the_program_prints() -> None:
    document = README.read_text()
    assert updated(document) == document


def test_a_fixed_fleet_is_a_queue_with_so_many_threads() -> None:
    """Five requests at once on four threads: the fifth waits for the first that ends."""
    found = Fleet(FIXED).run([(1.0, 2.0), (1.0, 0.5), (1.0, 3.0), (1.0, 4.0), (1.0, 1.0)])
    assert (found.requests, found.late, found.worst_wait_s) == (5, 1, 0.5)
    assert found.worker_seconds == pytest.approx(5.0)


def test_waits_are_those_of_queueing_theory() -> None:
    """At 80 % of one worker's threads the mean wait is Erlang's C, give or take chance."""
    shape = Shape("steady", 4000.0, lambda _second: 32.0)
    fleet = Fleet(FIXED)
    found = fleet.run(shape.arrivals(7))
    offered = 3.2
    terms = [1.0, 3.2, 3.2**2 / 2, 3.2**3 / 6]
    last = 3.2**4 / 24 * THREADS / (THREADS - offered)
    mean_s = last / (sum(terms) + last) * 0.1 / (THREADS - offered)
    assert fleet.wait_s / found.requests == pytest.approx(mean_s, rel=0.15)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_every_request_is_served_in_every_size(shape: Shape) -> None:
    """And autoscaling is within its bounds, cheaper than the most and better than the least."""
    arrivals = sum(1 for _ in shape.arrivals(1))
    least, _, most, scaled = (outcome(shape, bounds) for _, bounds in SIZES)
    assert {least.requests, most.requests, scaled.requests} == {arrivals}
    assert LEAST < scaled.most_workers <= MOST
    assert scaled.late < least.late
    assert scaled.worker_seconds < most.worker_seconds
    assert most.worst_wait_s <= scaled.worst_wait_s < least.worst_wait_s
    assert LATE_S < least.worst_wait_s
