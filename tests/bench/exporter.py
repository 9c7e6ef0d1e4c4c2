"""The metrics page when it matters: how long a scrape takes while the server is in trouble.

    python -m tests.bench.exporter [--scrapes 300] [--scrape 64x16]

In each kind of trouble (every thread stuck, one worker holding its interpreter in C, workers
that crash again and again, reloads) the page is asked for on one connection, and then on four at
once. Also renders, in this process, the page of 64 workers with 16 threads each, of which the
workers are real processes; with --scrape only this, of any size.
The goal is 50 ms: at the 99th percentile for scrapes, in the median for the large page.
CPU is this process's: on a machine with other work it tells what the page itself costs.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gthreadsrv_metrics.collector import MultiprocessCollector
from gthreadsrv_metrics.exposition import negotiate, render
from gthreadsrv_metrics.scoreboard import Scoreboard
from gthreadsrv_metrics.sources import Sources
from tests.system.client import Connection
from tests.system.conftest import Servers
from tests.system.harness import Server, open_socket
from tests.system.test_metrics_truth import trouble

GOAL_S = 0.05
KINDS = ("threads stuck", "interpreter held", "crash loop", "reload")
TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

# The interpreter is held for four seconds; scrapes after that would prove nothing.
LONGEST_S = 3.0


def scrape(server: Server, count: int) -> list[float]:
    """Seconds of each of so many scrapes on one connection."""
    taken: list[float] = []
    address = server.metrics_url.removeprefix("http://")
    deadline = time.monotonic() + LONGEST_S
    with Connection(open_socket(address)) as connection:
        while len(taken) < count and time.monotonic() < deadline:
            started = time.perf_counter()
            connection.request("GET", "/metrics")
            assert connection.response().status == 200
            taken.append(time.perf_counter() - started)
    return taken


def side_by_side(server: Server, count: int, scrapers: int) -> list[float]:
    """The same from several scrapers at once."""
    taken: list[float] = []
    threads = [
        threading.Thread(target=lambda: taken.extend(scrape(server, count // scrapers)))
        for _ in range(scrapers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


def in_trouble(kind: str, scrapers: int, count: int) -> list[float]:
    """Scrapes of a server of its own in this trouble."""
    with tempfile.TemporaryDirectory() as folder:
        servers = Servers(Path(folder))
        try:
            with trouble(servers, kind) as server:
                return side_by_side(server, count, scrapers)
        finally:
            servers.kill()


@contextmanager
def processes(count: int) -> Iterator[list[int]]:
    """So many children of this size, for what a scrape reads in /proc."""
    pids: list[int] = []
    try:
        for _ in range(count):
            pid = os.fork()
            if not pid:
                signal.pause()
                os._exit(0)
            pids.append(pid)
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def large_board(pids: Sequence[int], threads: int) -> Scoreboard:
    """A board as a busy server with these workers leaves it."""
    board = Scoreboard(len(pids), threads, ["127.0.0.1:8000"])
    now = time.monotonic()
    for slot, pid in enumerate(pids):
        board.master.lease(slot, pid, 1, now, threads=threads)
        board.master.set_state(slot, "ready")
        board.slot(slot).heartbeat(now)
        for index in range(threads):
            row = board.thread(slot, index)
            for method, status in (("GET", 200), ("GET", 404), ("POST", 201), ("GET", 500)):
                took_s = 0.002 * 1.4 ** (index % 16)  # in many buckets
                row.begin(now)
                row.finish(now + took_s, method, status, now, took_s, 0.001, True, 10, 1000)
    return board


def render_large(
    accept: str, rounds: int, workers: int, threads: int
) -> tuple[list[float], list[float]]:
    """Seconds, and CPU seconds, of each collection and rendering of so many workers."""
    encoding = negotiate(accept)
    taken: list[float] = []
    used: list[float] = []
    with processes(workers) as pids:
        board = large_board(pids, threads)
        collector = MultiprocessCollector(board, Sources(build={"version": "x"}))
        for _ in range(rounds):
            started, cpu = time.perf_counter(), time.process_time()
            render(encoding, list(collector.collect()), [], compress=False)
            used.append(time.process_time() - cpu)
            taken.append(time.perf_counter() - started)
    return taken, used


def report(
    name: str, taken: list[float], judge: Callable[[list[float]], float], more: str = ""
) -> bool:
    """Print one line; whether it is within the goal."""
    good = judge(taken) < GOAL_S
    print(
        f"{name:34} {len(taken):5} scrapes  median {statistics.median(taken) * 1e3:6.1f} ms  "
        f"p99 {percentile(taken) * 1e3:6.1f} ms  {more}{'' if good else 'OVER THE GOAL'}"
    )
    return good


def percentile(taken: list[float]) -> float:
    """The 99th."""
    return sorted(taken)[min(len(taken) - 1, int(len(taken) * 0.99))]


def size(text: str) -> tuple[int, int]:
    """WORKERSxTHREADS."""
    workers, _, threads = text.partition("x")
    return int(workers), int(threads)


def main() -> int:
    """Measure and print; 1 when something is over the goal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scrapes", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=40, help="of the large page")
    parser.add_argument("--scrape", type=size, metavar="64x16", help="only a large page, of this")
    options = parser.parse_args()
    good = True
    for kind in () if options.scrape else KINDS:
        for scrapers in (1, 4):
            taken = in_trouble(kind, scrapers, options.scrapes)
            good &= report(f"{kind}, {scrapers} at once", taken, percentile)
    workers, threads = options.scrape or (64, 16)
    for name, accept in (("text", TEXT), ("OpenMetrics", OPENMETRICS)):
        taken, used = render_large(accept, options.rounds, workers, threads)
        cpu = f"CPU {statistics.median(used) * 1e3:5.1f} ms  "
        good &= report(f"{workers} x {threads} threads, {name}", taken, statistics.median, cpu)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
