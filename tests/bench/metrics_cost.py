"""Metrics' cost: the CPU time a request spends on being counted.

    python -m tests.bench.metrics_cost [--rounds 200] [--requests 2000]

Makes the calls on the scoreboard that one request on a kept connection makes, begin() and
finish(), and takes off what they cost on a row that does nothing.  Next to it comes the same
service from prometheus_client in multiprocess mode: a counter by method and code, two
histograms and a gauge.  (The scoreboard keeps more: the duration by method and code, the
application's time and bytes.)  The goal is at most 1.5 us for the scoreboard, both with
requests that all fall into the first buckets and with all sorts.

All of them take turns in one process, so that whatever else the machine does hits each.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from gthreadsrv_metrics.labels import DURATION_BOUNDS, QUEUE_BOUNDS
from gthreadsrv_metrics.reading import read_fleet
from gthreadsrv_metrics.scoreboard import Scoreboard, ThreadRow

GOAL_US = 1.5
# A set that stays in the CPU's cache: its own memory traffic is not the matter here.
DIFFERENT_REQUESTS = 250

# name -> the ranges of the whole time and of the wait, in seconds.
TRAFFIC: Final = {"quick": ((2e-4, 9e-4), (2e-5, 4e-4)), "mixed": ((3e-4, 3.0), (5e-5, 0.5))}

# now, done, method, status, started, app_s, queue_s, body_out
Facts = tuple[float, float, str, int, float, float, float, int]


class NullRow:
    """Metrics off: the calls are made and nothing comes of them."""

    __slots__ = ()

    def begin(self, now: float) -> None:
        pass

    def finish(
        self,
        now: float,
        method: str,
        status: int,
        started: float,
        app_s: float,
        queue_s: float,
        kernel: bool,  # noqa: FBT001
        body_in: int,
        body_out: int,
        trace_id: str = "",
    ) -> None:
        pass


class PrometheusRow:
    """The same work by prometheus_client, written as its documentation shows it."""

    def __init__(self, prefix: str, *, keep_children: bool) -> None:
        # Chooses its way of storing when it is first imported: see measure_in().
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        registry = CollectorRegistry()
        self.requests = Counter(
            f"{prefix}_requests", "Requests.", ["method", "code"], registry=registry
        )
        self.duration = Histogram(
            f"{prefix}_duration_seconds", "Time.", buckets=DURATION_BOUNDS, registry=registry
        )
        self.queue = Histogram(
            f"{prefix}_queue_seconds", "Wait.", buckets=QUEUE_BOUNDS, registry=registry
        )
        self.busy = Gauge(
            f"{prefix}_busy", "Running.", multiprocess_mode="livesum", registry=registry
        )
        self.children: dict[str, dict[int, Any]] | None = {} if keep_children else None

    def begin(self, now: float) -> None:
        self.busy.inc()

    def finish(
        self,
        now: float,
        method: str,
        status: int,
        started: float,
        app_s: float,
        queue_s: float,
        kernel: bool,  # noqa: FBT001
        body_in: int,
        body_out: int,
        trace_id: str = "",
    ) -> None:
        if self.children is None:
            self.requests.labels(method, status).inc()
        else:
            try:
                child = self.children[method][status]
            except KeyError:
                child = self.requests.labels(method, status)
                self.children.setdefault(method, {})[status] = child
            child.inc()
        self.duration.observe(now - started)
        self.queue.observe(queue_s)
        self.busy.dec()


Row: TypeAlias = ThreadRow | NullRow | PrometheusRow


def serve(row: Row, requests: Sequence[Facts]) -> None:
    """Make one request's calls for each, as the service makes them."""
    for now, done, method, status, started, app_s, queue_s, body_out in requests:
        row.begin(now)
        row.finish(
            done,
            method,
            status,
            started,
            app_s,
            queue_s,
            True,
            0,
            body_out,
            "",  # noqa: FBT003
        )


def own_copy(function: Callable[[Row, Sequence[Facts]], None]) -> Any:
    """Return the function with bytecode of its own.

    From 3.11 on the interpreter fits a call to the type it met there.  A server's row is
    always of one type; shared between several, the calls would fit none.
    """
    return types.FunctionType(function.__code__.replace(), function.__globals__)


def traffic(duration: tuple[float, float], wait: tuple[float, float]) -> list[Facts]:
    """Return requests whose times spread evenly over the orders of magnitude in the range."""
    chance = random.Random(1)
    kinds = [("GET", 200), ("GET", 304), ("POST", 201), ("GET", 404), ("POST", 302)]
    requests: list[Facts] = []
    for method, status in chance.choices(kinds, (80, 8, 5, 4, 3), k=DIFFERENT_REQUESTS):
        duration_s, queue_s = (
            math.exp(chance.uniform(math.log(low), math.log(high)))
            for low, high in (duration, wait)
        )
        started = 1000.0 + chance.random()
        now = started + 2e-5
        done = started + duration_s
        size = 0 if status == 304 else chance.randrange(20, 20_000)
        requests.append((now, done, method, status, started, done - now, queue_s, size))
    return requests


def measure(requests: list[Facts], rounds: int, passes: int) -> dict[str, list[float]]:
    """Let each row count the same requests, in turns; microseconds per request by round."""
    board = Scoreboard(1, 1, [])
    board.master.lease(0, os.getpid(), 1, 1000.0)
    rows: dict[str, Row] = {
        "off": NullRow(),
        "scoreboard": board.thread(0, 0),
        "prometheus_client": PrometheusRow("plain", keep_children=False),
        "  labels() kept": PrometheusRow("kept", keep_children=True),
    }
    loops = {name: own_copy(serve) for name in rows}
    for name, row in rows.items():
        loops[name](row, requests)  # claims columns and files, warms the bytecode
    costs: dict[str, list[float]] = {name: [] for name in rows}
    order = list(rows)
    for _ in range(rounds):
        for name in order:
            row, loop = rows[name], loops[name]
            before = time.process_time_ns()
            for _ in range(passes):
                loop(row, requests)
            spent_ns = time.process_time_ns() - before
            costs[name].append(spent_ns / 1e3 / (passes * len(requests)))
        order.append(order.pop(0))
    counted = read_fleet(board, 2000.0).slots[0].requests
    assert counted == (1 + rounds * passes) * len(requests), "requests were not counted"
    return costs


def measure_all(rounds: int, requests: int) -> bool:
    """Measure and print; whether the scoreboard is within the goal."""
    print(f"Python {platform.python_version()}: CPU us per request, medians of {rounds} rounds")
    print(f"{'traffic':7}  {'metrics':17}  {'total':>6}  over off  (least)  ratio")
    good = True
    for kind, ranges in TRAFFIC.items():
        costs = measure(traffic(*ranges), rounds, max(1, requests // DIFFERENT_REQUESTS))
        off = costs["off"]
        # Off and on of one round are neighbours in time: the machine was alike for both.
        over = {
            name: statistics.median(on - none for on, none in zip(cost, off, strict=True))
            for name, cost in costs.items()
        }
        for name, cost in costs.items():
            print(
                f"{kind:7}  {name:17}  {statistics.median(cost):6.3f}  {over[name]:8.3f}"
                f"  {min(cost) - min(off):7.3f}  {over[name] / over['scoreboard']:5.1f}"
            )
        good = good and over["scoreboard"] <= GOAL_US
    print(f"the scoreboard is {'within' if good else 'OVER'} {GOAL_US} us")
    return good


def measure_in(folder: str, arguments: Sequence[str]) -> int:
    """Measure in a process that has had the directory in its environment from the start."""
    return subprocess.run(
        [sys.executable, "-m", "tests.bench.metrics_cost", "--child", *arguments],
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": folder},
        check=False,
    ).returncode


def main() -> int:
    """Measure; 1 when the scoreboard costs more than the goal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--requests", type=int, default=2000, help="of each in every round")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return 0 if measure_all(options.rounds, options.requests) else 1
    with tempfile.TemporaryDirectory() as folder:
        return measure_in(folder, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
