"""Ten thousand restarts of workers leave nothing behind: no series, no files, no memory.

    python -m tests.bench.restarts [--count 10000]

Every worker serves one request and is replaced (--max-requests 1). The application has metrics
of its own, so that its files would add up too. Workers are replaced one at a time, so that it
takes some twenty minutes.

How many series and files there are at one instant depends on which slots are taken then. So all
that were seen up to the end of the first restarts are compared with all seen to the end: no new
kind of either, and no slot beyond twice the workers. Memory is compared as it is.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.ports import free_port
from tests.system.client import Connection
from tests.system.harness import Server, open_socket, running, title, wait_until

WARM = 200
WORKERS = 4
# While a worker is being replaced its successor is in another slot.
SLOTS = 2 * WORKERS
MEMORY_LIMIT_KB = 4096
# Between looks: a scrape costs as much as a restart.
PAUSE_S = 0.1

# How a slot shows: as a label of a series (that of `all` gauges is pid), in a file's name.
SERIES_SLOT = re.compile(r'(?:worker|pid)="(\d+)"')
FILE_SLOT = re.compile(r"_(\d+)\.db$")


class Seen:
    """Every series and every file there has been."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.series: set[str] = set()
        self.files: set[str] = set()

    def kinds(self) -> set[str]:
        """The same without slots."""
        series = {SERIES_SLOT.sub("SLOT", name) for name in self.series}
        return series | {FILE_SLOT.sub("_SLOT", name) for name in self.files}

    def slots(self) -> set[int]:
        """The slots."""
        found = [SERIES_SLOT.search(name) for name in self.series]
        found += [FILE_SLOT.search(name) for name in self.files]
        return {int(match[1]) for match in found if match}


@dataclass(frozen=True)
class Remains:
    """What a server has after some restarts, and what it has had until then."""

    exits: int
    series: int
    files: int
    kinds: frozenset[str]
    slots: frozenset[int]
    master_kb: int
    exporter_kb: int

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.exits:6} exits: {self.series} series and {self.files} files so far, "
            f"of {len(self.kinds)} kinds in {len(self.slots)} slots; "
            f"master {self.master_kb} KiB, exporter {self.exporter_kb} KiB"
        )

    def grown(self, before: Remains) -> list[str]:
        """What there is more of."""
        complaints = [f"new: {name}" for name in sorted(self.kinds - before.kinds)]
        complaints += [f"slot {slot}" for slot in sorted(self.slots) if slot >= SLOTS]
        for name in ("master_kb", "exporter_kb"):
            now, then = getattr(self, name), getattr(before, name)
            if now > then + MEMORY_LIMIT_KB:
                complaints.append(f"{name}: {now}, was {then}")
        return complaints


def memory_kb(pid: int) -> int:
    """Memory of the process's own making, also where its children share it.

    What the master leaks before a fork is not private to it: smaps' Private_ would hide it.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


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


def look(server: Server, seen: Seen, exits: int) -> Remains:
    """Note what has been seen by now, and the memory."""
    [exporter] = [pid for pid in server.left_behind() if "exporter" in title(pid)]
    return Remains(
        exits=exits,
        series=len(seen.series),
        files=len(seen.files),
        kinds=frozenset(seen.kinds()),
        slots=frozenset(seen.slots()),
        master_kb=memory_kb(server.pid),
        exporter_kb=memory_kb(exporter),
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


def restart(
    server: Server, metrics: int, directory: Path, seen: Seen, goal: int, deadline: float
) -> Remains:
    """Wait for that many exits, looking all the time."""
    while True:
        lines = page(metrics)
        seen.series.update(line.rpartition(" ")[0] for line in lines)
        seen.files.update(path.name for path in directory.glob("*.db"))
        exits = exits_on(lines)
        if exits >= goal:
            return look(server, seen, exits)
        assert time.monotonic() < deadline, f"{exits} exits of {goal} when the time was up"
        assert server.process.poll() is None, server.report()
        time.sleep(PAUSE_S)


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
            bind=(f"127.0.0.1:{port}",), cwd=Path(folder), workers=WORKERS, threads=2,
            env={"PROMETHEUS_MULTIPROC_DIR": str(directory)},
        ) as server:  # fmt: skip
            wait_until(lambda: page(metrics), what=server.report())
            clients = [threading.Thread(target=ask, args=(port, stop)) for _ in range(4)]
            for client in clients:
                client.start()
            try:
                seen, warm = Seen(), min(WARM, options.count // 2)
                before = restart(server, metrics, directory, seen, warm, deadline)
                started = time.monotonic()
                print(before, flush=True)
                after = restart(server, metrics, directory, seen, options.count, deadline)
            finally:
                stop.set()
                for client in clients:
                    client.join()
            rate = (after.exits - before.exits) / (time.monotonic() - started)
            print(after, f"({rate:.0f} restarts a second)")
    grown = after.grown(before)
    print("\n".join(grown) or "nothing has grown")
    return int(bool(grown))


if __name__ == "__main__":
    sys.exit(main())
