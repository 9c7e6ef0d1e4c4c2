"""Idle: what a server costs that nobody uses.

    python -m tests.bench.idle [--seconds 10] [--workers 4]

Sums the CPU time and the context switches of every process and thread of the server's
process group over the time, from /proc.  With nothing to do only heartbeats should wake
it: the goal is under 0.5 % of one core for 4 workers.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.system.harness import Server, running

GOAL_PERCENT = 0.5


@dataclass(frozen=True)
class Usage:
    """What the process group has used since it started."""

    cpu_s: float
    switches: int
    processes: int
    threads: int


def usage(server: Server) -> Usage:
    """Read the counters of every thread of the group."""
    cpu_ns = switches = threads = 0
    pids = server.left_behind()
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            threads += 1
            # schedstat counts nanoseconds; stat's clock ticks of 10 ms would hide a small cost.
            cpu_ns += int((task / "schedstat").read_text().split()[0])
            for line in (task / "status").read_text().splitlines():
                if line.startswith(("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")):
                    switches += int(line.split()[1])
    return Usage(cpu_ns / 1e9, switches, len(pids), threads)


def measure(server: Server, seconds: float) -> tuple[Usage, Usage]:
    """Counters before and after that time."""
    before = usage(server)
    time.sleep(seconds)
    return before, usage(server)


def main() -> int:
    """Measure and print; 1 when it is over the goal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(
            "gthreadsrv.demo:app",
            cwd=Path(folder),
            metrics=True,
            workers=options.workers,
            threads=options.threads,
        ) as server,
    ):
        server.wait_workers(options.workers)
        server.wait_ready()
        time.sleep(1)
        before, after = measure(server, options.seconds)
    percent = 100 * (after.cpu_s - before.cpu_s) / options.seconds
    per_second = (after.switches - before.switches) / options.seconds
    print(
        f"{after.processes} processes, {after.threads} threads: {percent:.2f} % of one core, "
        f"{per_second:.1f} context switches per second over {options.seconds:g} s"
    )
    return 0 if percent < GOAL_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
