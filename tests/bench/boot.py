"""Boot: from the start of the command to the first response of the demo.

    python -m tests.bench.boot [--rounds 10]

The client tries to connect again and again from the moment the process is started, on a
port that was free a moment before.  The goal is under one second.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from tests.bench.ports import free_port
from tests.system.client import Connection
from tests.system.harness import clean_environment

GOAL_S = 1.0
GIVE_UP_S = 20.0


def first_response_s(folder: str) -> float:
    """Start the demo as a user does; seconds to its first response."""
    port, metrics_port = free_port(), free_port()
    started = time.monotonic()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gthreadsrv", "gthreadsrv.demo:app"),
            *("--bind", f"127.0.0.1:{port}", "--metrics-bind", f"127.0.0.1:{metrics_port}"),
        ],
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while time.monotonic() < started + GIVE_UP_S:
            try:
                sock = socket.create_connection(("127.0.0.1", port), 5)
            except ConnectionRefusedError:
                time.sleep(0.002)
                continue
            with Connection(sock) as connection:
                assert connection.get("/fast").body == b"Hello, world!\n"
                return time.monotonic() - started
        raise AssertionError(f"no response within {GIVE_UP_S} s")
    finally:
        process.terminate()
        process.wait()


def main() -> int:
    """Measure and print; 1 when the median is over the goal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    with tempfile.TemporaryDirectory() as folder:
        times = [first_response_s(folder) for _ in range(options.rounds)]
    median = statistics.median(times)
    print(
        f"first response after {median:.3f} s (median of {len(times)}; "
        f"{min(times):.3f} to {max(times):.3f})"
    )
    return 0 if median < GOAL_S else 1


if __name__ == "__main__":
    sys.exit(main())
