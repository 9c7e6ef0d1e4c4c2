"""One measurement: start a server on its core, load it from another, look at both, stop it.

Runs in the benchmark's own process, single-threaded. Every measurement has a fresh server, on ports
of its own, in a folder of its own; whatever happens, its processes are gone afterwards.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.peers import process
from tests.bench.peers.load import LoadError, Placed, ask, first_response, idle_connections
from tests.bench.peers.servers import APPS, SERVERS, Wish
from tests.bench.peers.workloads import LOAD_CORE, Entry, Row
from tests.bench.ports import free_port

BOOT_DEADLINE_S = 20.0
STOP_DEADLINE_S = 3.0
WARM_UP_S = 1
# Requests of the warm-up that nobody waits for any longer are still being served.
SETTLE_S = 0.4
IDLE_S = 3.0
BOOTS = 3
SPARE_CONNECTIONS = 1000

# What was measured, by name: rate (1/s), cpu_us (per request), bytes_per_cpu_s, p50_ms, p99_ms,
# pss_kib, failures, of_ideal, disturbance; idle_kib, idle_cpu_percent, p99_ratio; boot_ms.
Sample = dict[str, float]


@dataclass(frozen=True)
class Surroundings:
    """What all measurements share."""

    programs: Path
    folder: Path
    big_file: Path
    seconds: int


class Running:
    """A server that has answered."""

    def __init__(self, process_: subprocess.Popen[bytes], wish: Wish, boot_s: float) -> None:
        """Its session's leader is the process that was started."""
        self.leader = process_.pid
        self.wish = wish
        self.boot_s = boot_s


@contextmanager
def running(entry: Entry, app: str, connections: int, around: Surroundings) -> Iterator[Running]:
    """Start, wait for the first response, and stop at the end."""
    log = around.folder / "access.log" if entry.access_log else None
    wish = Wish(
        free_port(), free_port(), app, entry.workers, entry.threads, connections, access_log=log
    )
    output = around.folder / "output"
    started = time.monotonic()
    with output.open("wb") as file:
        server = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, entry.server_cores)),
             *SERVERS[entry.server].command(around.programs, wish)],
            cwd=around.folder,
            env=environment(around),
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        try:
            answered = first_response(wish.port, started + BOOT_DEADLINE_S)
        except LoadError as error:
            lines = output.read_text(errors="replace").strip().splitlines()
            raise LoadError(f"{error}: {lines[-1] if lines else 'it wrote nothing'}") from error
        yield Running(server, wish, answered - started)
    finally:
        stop(server)
        if log:
            log.unlink(missing_ok=True)


def environment(around: Surroundings) -> dict[str, str]:
    """Only what a server needs: nothing of the caller's configures it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(APPS), "BENCH_FILE": str(around.big_file)}


def stop(server: subprocess.Popen[bytes]) -> None:
    """Ask it to leave; kill what is left."""
    server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(STOP_DEADLINE_S)
    for stat in process.members(process.read_all(), server.pid):
        with suppress(ProcessLookupError):
            os.kill(stat.pid, signal.SIGKILL)
    server.wait()


def measure(row: Row, entry: Entry, around: Surroundings) -> Sample:
    """One server in one row, once; LoadError when it cannot do it."""
    if row.kind == "boot":
        return boot(row, entry, around)
    connections = row.idle_connections + SPARE_CONNECTIONS
    with ExitStack() as stack:
        server = stack.enter_context(running(entry, row.app, connections, around))
        if row.kind == "memory":
            return memory(server)
        placed = place(row, entry.load_cores, server)
        beside: list[Placed] = []
        if entry.company:
            alike = replace(entry, server_cores=(LOAD_CORE,))
            other = stack.enter_context(running(alike, row.app, connections, around))
            beside = place(row, (LOAD_CORE,), other)
        ask([*placed, *beside], WARM_UP_S)
        time.sleep(SETTLE_S)
        seconds = around.seconds * row.times_longer
        if row.kind == "idle":
            return idle(server, row, entry, placed, seconds)
        sample = loaded(server, entry, placed, seconds, beside)
    if row.ideal_rate is not None:
        sample["of_ideal"] = sample["rate"] / row.ideal_rate
    return sample


def place(row: Row, cores: tuple[int, ...], server: Running) -> list[Placed]:
    """Every stream of the row once on each core."""
    return [Placed(stream, core, server.wish.port) for core in cores for stream in row.streams]


def loaded(
    server: Running,
    entry: Entry,
    placed: Sequence[Placed],
    seconds: int,
    beside: Sequence[Placed] = (),
) -> Sample:
    """Load it for so long; what happens beside it is not counted."""
    busy, cpu, started = (
        process.cores_busy_s(entry.server_cores), process.cpu_s(server.leader), time.monotonic()
    )  # fmt: skip
    outcomes = ask([*placed, *beside], seconds)[: len(placed)]
    took_s = time.monotonic() - started
    cpu = process.cpu_s(server.leader) - cpu
    busy = process.cores_busy_s(entry.server_cores) - busy
    requests = sum(outcome.requests for outcome in outcomes)
    moved = sum(
        outcome.received_bytes + outcome.requests * at.stream.body_bytes
        for outcome, at in zip(outcomes, placed, strict=True)
    )
    if not requests:
        raise LoadError(f"no response within {seconds} s")
    sample = {
        "rate": sum(outcome.requests / outcome.duration_s for outcome in outcomes),
        "cpu_us": cpu / requests * 1e6,
        "bytes_per_cpu_s": moved / max(cpu, 1 / process.TICKS_PER_S),
        "p50_ms": outcomes[0].p50_ms,
        "p99_ms": outcomes[0].p99_ms,
        "pss_kib": float(process.pss_kib(server.leader)),
        "failures": float(sum(outcome.failures for outcome in outcomes)),
    }
    if not set(entry.server_cores) & set(entry.load_cores):
        # Time of the server's cores that went elsewhere: others' work, or a busy host.
        sample["disturbance"] = max(0.0, busy - cpu) / (took_s * len(entry.server_cores))
    return sample


def memory(server: Running) -> Sample:
    """Memory when requests have been served, and ours has been scraped once."""
    for _ in range(20):
        first_response(server.wish.port, time.monotonic() + 1)
    with suppress(LoadError):
        # Only ours listens there; its exporter is then as it is in use.
        first_response(server.wish.metrics_port, time.monotonic() + 0.2)
    return {"pss_kib": float(process.pss_kib(server.leader))}


def boot(row: Row, entry: Entry, around: Surroundings) -> Sample:
    """The median of several starts; the first, not counted, leaves compiled files behind."""
    times = []
    for _ in range(1 + BOOTS):
        with running(entry, row.app, SPARE_CONNECTIONS, around) as server:
            times.append(server.boot_s)
    return {"boot_ms": statistics.median(times[1:]) * 1e3}


def idle(server: Running, row: Row, entry: Entry, placed: Sequence[Placed], seconds: int) -> Sample:
    """What idle connections cost: memory, CPU, and others' latency."""
    before = loaded(server, entry, placed, seconds)
    cpu_before = idle_cpu_percent(server)
    pss_before = process.pss_kib(server.leader)
    with idle_connections(server.wish.port, row.idle_connections):
        pss = process.pss_kib(server.leader)
        cpu = idle_cpu_percent(server)
        beside = loaded(server, entry, placed, seconds)
    return {
        **beside,
        "idle_kib": (pss - pss_before) / row.idle_connections,
        "idle_cpu_percent": max(0.0, cpu - cpu_before),
        "p99_ratio": beside["p99_ms"] / before["p99_ms"],
    }


def idle_cpu_percent(server: Running) -> float:
    """CPU of a server that nobody asks, in percent of a core; a second's rest comes first."""
    time.sleep(1)
    cpu, started = process.fine_cpu_s(server.leader), time.monotonic()
    time.sleep(IDLE_S)
    return 100 * (process.fine_cpu_s(server.leader) - cpu) / (time.monotonic() - started)
