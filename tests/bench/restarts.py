"""Ten thousand restarts of workers leave nothing behind: no series, no files, no memory.

    python -m tests.bench.restarts [--count 10000]

Every worker serves one request and is replaced (--max-requests 1). The application has metrics
of its own, so that its files would add up too. Series on the page, files of metrics, and the memory
of master and exporter are compared with those after the first restarts. Workers are replaced one
at a time, so that it takes some twenty minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.boot import free_port
from tests.system.client import Connection
from tests.system.harness import Server, open_socket, running, title, wait_until

WARM = 200
MEMORY_LIMIT_KB = 4096


@dataclass(frozen=True)
class Remains:
    """What a server has after some restarts."""

    exits: int
    series: int
    files: int
    master_kb: int
    exporter_kb: int

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.exits:6} exits: {self.series} series, {self.files} files, "
            f"master {self.master_kb} KiB, exporter {self.exporter_kb} KiB"
        )


def private_kb(pid: int) -> int:
    """Memory that is this process's alone."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def page(port: int) -> list[str]:
    """The lines with samples on the metrics page; none while nobody answers."""
    try:
        with Connection(open_socket(f"127.0.0.1:{port}")) as connection:
            lines = connection.get("/metrics").text.splitlines()
    except (OSError, AssertionError):
        return []
    return [line for line in lines if not line.startswith("#")]


def exits_on(lines: list[str]) -> int:
    """The exits of all workers."""
    name = "gthreadsrv_worker_exits_total{"
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith(name)))


def look(server: Server, metrics: int, directory: Path) -> Remains:
    """Count what there is now."""
    lines = page(metrics)
    [exporter] = [pid for pid in server.left_behind() if "exporter" in title(pid)]
    return Remains(
        exits=exits_on(lines),
        series=len(lines),
        files=len(list(directory.glob("*.db"))),
        master_kb=private_kb(server.pid),
        exporter_kb=private_kb(exporter),
    )


def ask(port: int, stop: threading.Event) -> None:
    """One client: a request on each connection, again and again."""
    while not stop.is_set():
        try:
            with Connection(open_socket(f"127.0.0.1:{port}")) as connection:
                connection.request("GET", "/", {"Connection": "close"})
                connection.response()
        except (OSError, AssertionError):
            continue


def restart(server: Server, metrics: int, goal: int, deadline: float) -> None:
    """Wait for that many exits."""
    while (exits := exits_on(page(metrics))) < goal:
        assert time.monotonic() < deadline, f"{exits} exits of {goal} when the time was up"
        assert server.process.poll() is None, server.report()


def main() -> int:
    """Restart and compare; 1 when something has grown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--deadline", type=float, default=1800, metavar="SECONDS")
    options = parser.parse_args()
    deadline = time.monotonic() + options.deadline
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "metrics"
        port, metrics = free_port(), free_port()
        with running(
            "counting:app", "--max-requests", "1", "--preload", "--log-level", "error",
            "--metrics-bind", f"127.0.0.1:{metrics}",
            bind=(f"127.0.0.1:{port}",), cwd=Path(folder), workers=4, threads=2,
            env={"PROMETHEUS_MULTIPROC_DIR": str(directory)},
        ) as server:  # fmt: skip
            wait_until(lambda: page(metrics), what=server.report())
            clients = [threading.Thread(target=ask, args=(port, stop)) for _ in range(4)]
            for client in clients:
                client.start()
            try:
                restart(server, metrics, min(WARM, options.count // 2), deadline)
                before, started = look(server, metrics, directory), time.monotonic()
                print(before, flush=True)
                restart(server, metrics, options.count, deadline)
                after = look(server, metrics, directory)
            finally:
                stop.set()
                for client in clients:
                    client.join()
            rate = (after.exits - before.exits) / (time.monotonic() - started)
            print(after, f"({rate:.0f} restarts a second)")
    grown = (
        after.series > before.series
        or after.files > before.files
        or after.master_kb > before.master_kb + MEMORY_LIMIT_KB
        or after.exporter_kb > before.exporter_kb + MEMORY_LIMIT_KB
    )
    print("something has grown" if grown else "nothing has grown")
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
