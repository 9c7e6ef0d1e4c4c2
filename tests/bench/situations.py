"""Which alert fires in which situation, and what the dashboards show of it.

A real server in trouble, a real Prometheus, the committed rules and every panel's query.

    python -m tests.bench.situations [--factor 60] [--only WORD] [--list]

Each situation starts a server of its own, lets Prometheus know it while it is well, stages the
trouble and waits until the alerts that belong to it fire; then as long again as any other alert
would need.  Durations in the rules are divided by the factor (tests/system/alerting.py).
The table has a row for each situation: F its own alert fired, c one that follows from the same
cause and is expected with it, ! one that should have been quiet, ? one that should have fired.
Below it are the panels on which the situation was to be seen and was not (tests/bench/panels.py).
Situations of memory and CPU limits need a writable cgroup v1 hierarchy, and are named when skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.panels import SHOWN_BY, faults
from tests.system.alerting import watched
from tests.system.client import ClosedError, Connection
from tests.system.conftest import Servers
from tests.system.harness import APPS, Server, wait_until
from tests.unit.metrics.rule_files import EXPECTED_ALERTS

# Long enough for a window of five minutes and a `for` of ten, at the factor.
SETTLE_S = 17 * 60.0
FIRE_DEADLINE_S = 100.0
# Scrapes while the server is well, so that rates have something to start from.
WELL_SCRAPES = 12
CGROUPS = Path("/sys/fs/cgroup")
MIB = 1024 * 1024


@contextmanager
def load(
    server: Server,
    target: str,
    clients: int = 1,
    pause_s: float = 0.0,
    connections: Sequence[Connection] = (),
) -> Iterator[None]:
    """Clients that ask again and again, each request on a new connection unless some are given."""
    stop = threading.Event()

    def ask(number: int) -> None:
        while not stop.wait(pause_s):
            # In trouble, connections are refused, cut and late: that is what is staged.
            with contextlib.suppress(OSError, ClosedError, AssertionError):
                if connections:
                    connections[number].get(target)
                else:
                    server.get(target)

    threads = [
        threading.Thread(target=ask, args=(number,), daemon=True)
        for number in range(len(connections) or clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(0.1)


@contextmanager
def repeated(action: Callable[[], None], pause_s: float) -> Iterator[None]:
    """Do something again and again."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(pause_s):
            action()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


Trouble = Callable[[Server, ExitStack], None]


@dataclass(frozen=True)
class Situation:
    """One way to be, what a server for it looks like, and which alerts belong to it."""

    name: str
    trouble: Trouble
    own: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()  # must fire as well: the same cause seen from elsewhere
    workers: int = 2
    threads: int = 2
    arguments: tuple[str, ...] = ()
    limits: dict[str, dict[str, int]] = field(default_factory=dict)  # controller -> file -> value
    app: str = "troubles:app"

    @property
    def expected(self) -> set[str]:
        """The alerts that must fire, with their prefix."""
        return {f"Gthreadsrv{name}" for name in (*self.own, *self.follows)}


def calm(server: Server, stack: ExitStack) -> None:
    """A few requests."""
    stack.enter_context(load(server, "/sleep?n=0.01", 2, 0.1))


def busy_but_well(server: Server, stack: ExitStack) -> None:
    """Two thirds of the threads work all the time, as a well-sized service does at noon."""
    stack.enter_context(load(server, "/sleep?n=0.05", 7, 0.01))


def coming_and_going(server: Server, stack: ExitStack) -> None:
    """Reloads and recycled workers, under load."""
    stack.enter_context(load(server, "/sleep?n=0.01", 3, 0.02))
    stack.enter_context(repeated(lambda: server.send_signal(signal.SIGHUP), 3.0))


def slow_clients(server: Server, stack: ExitStack) -> None:
    """Sixty clients that send their request byte by byte, and some that are like others."""
    request = b"GET /sleep?n=0 HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"s" * 10_000
    slow = [stack.enter_context(server.connect()) for _ in range(60)]
    sent = [0] * len(slow)

    def drip() -> None:
        for number, connection in enumerate(slow):
            with contextlib.suppress(OSError):
                connection.send(request[sent[number] : sent[number] + 1])
            sent[number] += 1

    stack.enter_context(load(server, "/sleep?n=0.01", 2, 0.05))
    stack.enter_context(repeated(drip, 0.2))


def saturated(server: Server, stack: ExitStack) -> None:
    """As many requests as threads, all the time."""
    stack.enter_context(load(server, "/sleep?n=0.2", 4))


def queueing(server: Server, stack: ExitStack) -> None:
    """Four times as many requests as threads."""
    stack.enter_context(load(server, "/sleep?n=0.2", 16))


def flooded(server: Server, stack: ExitStack) -> None:
    """Many more requests than threads."""
    stack.enter_context(load(server, "/sleep?n=0.1", 60))


def computing(server: Server, stack: ExitStack) -> None:
    """Three requests that compute, in one worker with threads to spare."""
    stack.enter_context(load(server, "/compute?n=0.02", 3))


def one_sided(server: Server, stack: ExitStack) -> None:
    """Three busy keep-alive connections to one worker, a little work for the other."""
    by_worker: dict[bytes, list[Connection]] = {}
    for _ in range(24):
        connection = stack.enter_context(server.connect())
        by_worker.setdefault(connection.get("/sleep?n=0").body, []).append(connection)
    busiest = max(by_worker.values(), key=len)[:3]
    assert len(busiest) == 3
    stack.enter_context(load(server, "/sleep?n=0.05", connections=busiest))
    stack.enter_context(load(server, "/sleep?n=0.001", 1, 0.2))


def crashing(server: Server, stack: ExitStack) -> None:
    """A worker that dies every second, while another one serves."""

    def kill() -> None:
        pids = server.worker_pids()
        if len(pids) > 1:
            os.kill(pids[-1], signal.SIGKILL)

    stack.enter_context(load(server, "/sleep?n=0.01", 2, 0.05))
    stack.enter_context(repeated(kill, 1.0))


def hanging_boot(server: Server, stack: ExitStack) -> None:
    """Every worker dies, and the application's import hangs."""
    (server.cwd / "gate").touch()
    for pid in server.worker_pids():
        os.kill(pid, signal.SIGKILL)


def bad_reload(server: Server, stack: ExitStack) -> None:
    """HUP with code that cannot be imported."""
    stack.enter_context(load(server, "/sleep?n=0.01", 2, 0.05))
    (server.cwd / "deployed.py").write_text("app = 1 / 0\n")
    server.send_signal(signal.SIGHUP)


def stuck(server: Server, stack: ExitStack) -> None:
    """One request that does not end, and others that do."""
    stack.enter_context(load(server, "/sleep?n=0.01", 2, 0.05))
    stack.enter_context(server.connect()).request("GET", "/sleep?n=90")


def timing_out(server: Server, stack: ExitStack) -> None:
    """Two clients whose requests wait for what never comes, in Python."""
    stack.enter_context(load(server, "/wait?n=90", 2))
    stack.enter_context(load(server, "/sleep?n=0.01", 2, 0.05))


def failing(server: Server, stack: ExitStack) -> None:
    """One request in seven fails."""
    stack.enter_context(load(server, "/sleep?n=0", 1, 0.05))
    stack.enter_context(load(server, "/fail", 1, 0.3))


def gone(server: Server, stack: ExitStack) -> None:
    """The whole server is killed."""
    server.kill()


def throttled(server: Server, stack: ExitStack) -> None:
    """Half a CPU for one request that computes."""
    stack.enter_context(load(server, "/compute?n=0.02", 1))


def _usage(server: Server) -> float:
    used = server.sample("gthreadsrv_cgroup_memory_usage_bytes")
    return used / server.sample("gthreadsrv_cgroup_memory_limit_bytes")


def growing(server: Server, stack: ExitStack) -> None:
    """A leak, up to 94 % of the limit."""
    while _usage(server) < 0.94:
        server.get("/keep?n=3")


def killed_for_memory(server: Server, stack: ExitStack) -> None:
    """A request that wants more than there is."""
    with contextlib.suppress(OSError, ClosedError):
        server.get("/keep?n=500")


def counting_children(server: Server, stack: ExitStack) -> None:
    """A child for each request, and each child counts."""
    stack.enter_context(load(server, "/child", 1, 0.2))


SITUATIONS = (
    Situation("calm", calm),
    Situation("busy but well", busy_but_well, threads=4),
    Situation("reloads, recycling", coming_and_going, arguments=("--max-requests", "100")),
    Situation("slow clients", slow_clients),
    Situation("all threads busy", saturated, ("ThreadPoolSaturated",)),
    Situation("requests queue", queueing, ("QueueTimeHigh",), ("ThreadPoolSaturated",)),
    Situation(
        "backlog fills", flooded, ("AcceptBacklogGrowing",),
        ("ThreadPoolSaturated", "QueueTimeHigh"), arguments=("--backlog", "200"),
    ),
    Situation(
        "backlog overflows", flooded, ("ListenerDropping",),
        ("ThreadPoolSaturated", "QueueTimeHigh", "AcceptBacklogGrowing"),
        arguments=("--backlog", "16"),
    ),
    Situation("one-sided connections", one_sided, ("WorkerImbalance",)),
    Situation("CPU-bound", computing, ("InterpreterBound",), workers=1, threads=6),
    Situation("worker crash loop", crashing, ("WorkerCrashLoop",)),
    Situation("boot hangs", hanging_boot, ("NoReadyWorkers",)),
    Situation("reload fails", bad_reload, ("ReloadFailed",), app="deployed:app"),
    Situation(
        "request stuck", stuck, ("RequestStuck",), threads=4, arguments=("--timeout", "3")
    ),
    Situation(
        "requests time out", timing_out, ("RequestTimeouts",), ("RequestStuck", "HighErrorRate"),
        threads=4, arguments=("--timeout", "3"),
    ),
    Situation("requests fail", failing, ("HighErrorRate",)),
    Situation("server gone", gone, ("Down",)),
    Situation("children count", counting_children, ("MetricFilesGrowing",), workers=1),
    Situation(
        "CPU quota", throttled, ("CPUThrottled",), workers=1,
        limits={"cpu": {"cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": 50_000}},
    ),
    Situation(
        "memory grows", growing, ("MemoryNearLimit",), workers=1,
        limits={"memory": {"memory.limit_in_bytes": 300 * MIB}},
    ),
    Situation(
        "out of memory", killed_for_memory, ("WorkerOOMKilled",),
        limits={"memory": {"memory.limit_in_bytes": 300 * MIB}},
    ),
)  # fmt: skip


@contextmanager
def limited(limits: dict[str, dict[str, int]]) -> Iterator[tuple[str, ...]]:
    """Make control groups with these limits; a command that runs another one in them."""
    folders = [CGROUPS / controller / f"gthreadsrv-{os.getpid()}" for controller in limits]
    try:
        for folder, files in zip(folders, limits.values(), strict=True):
            folder.mkdir()
            for name, value in files.items():
                (folder / name).write_text(str(value))
        enter = "".join(f"echo $$ > {folder}/cgroup.procs && " for folder in folders)
        yield ("sh", "-c", f'{enter}exec "$@"', "sh") if limits else ()
    finally:
        for folder in folders:
            if folder.exists():
                wait_until(lambda at=folder: not (at / "cgroup.procs").read_text())  # type: ignore[misc]
                folder.rmdir()


def possible(situation: Situation) -> bool:
    """Whether this machine lets us set the limits."""
    return all(os.access(CGROUPS / name / "tasks", os.W_OK) for name in situation.limits)


def seen_in(situation: Situation, factor: float) -> tuple[set[str], list[str]]:
    """Stage it; the alerts that fired, and what the dashboards failed to show."""
    with ExitStack() as outer:
        folder = Path(outer.enter_context(tempfile.TemporaryDirectory()))
        prefix = outer.enter_context(limited(situation.limits))
        servers = Servers(folder)
        outer.callback(servers.kill)
        (folder / "deployed.py").write_text("from troubles import app\n")
        server = servers(
            situation.app, "--pythonpath", f"{folder},{APPS}", *situation.arguments, prefix=prefix,
            workers=situation.workers, threads=situation.threads, metrics=True,
            env={"GATE": str(folder / "gate")},
        )  # fmt: skip
        server.wait_ready()
        server.wait_workers(situation.workers)
        with watched(server, folder, factor) as watch, ExitStack() as stack:
            wait_until(lambda: watch.scrapes() >= WELL_SCRAPES, what="scrapes")
            begun = time.time()
            situation.trouble(server, stack)
            with contextlib.suppress(AssertionError):  # what has not fired is in the table
                wait_until(
                    lambda: watch.fired() >= situation.expected and (situation.expected or True),
                    FIRE_DEADLINE_S,
                )
            time.sleep(SETTLE_S / factor)  # nothing to wait for: silence is what is measured
            shows = {"Overview: Alerts that fire A": 0.0} if situation.own else {}
            shows |= SHOWN_BY[situation.name]
            return watch.fired(), list(faults(watch, shows, begun, time.time(), factor))


def row(situation: Situation, fired: set[str]) -> tuple[str, bool]:
    """One line of the table; whether it is as it should be."""
    own = {f"Gthreadsrv{name}" for name in situation.own}
    cells = []
    for name in EXPECTED_ALERTS:
        if name in situation.expected:
            mark = "?" if name not in fired else "F" if name in own else "c"
        else:
            mark = "!" if name in fired else "."
        cells.append(mark)
    text = "  ".join(f"{cell:>2}" for cell in cells)
    return f"{situation.name:24} {text}", fired == situation.expected


def main() -> int:
    """Stage and print; 1 when an alert or a panel was not as it should be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--factor", type=float, default=60.0)
    parser.add_argument("--only", default="", help="situations with this word in their name")
    parser.add_argument("--list", action="store_true", help="only name them")
    options = parser.parse_args()
    chosen = [one for one in SITUATIONS if options.only in one.name]
    if options.list:
        print("\n".join(one.name for one in chosen))
        return 0
    for number, name in enumerate(EXPECTED_ALERTS, 1):
        print(f"{number:3} {name}")
    header = "  ".join(f"{number:>2}" for number in range(1, len(EXPECTED_ALERTS) + 1))
    print(f"\n{'situation':24} {header}")
    good, seen = True, set[str]()
    for situation in chosen:
        if not possible(situation):
            print(f"{situation.name:24} skipped: no writable cgroup v1 hierarchy here", flush=True)
            continue
        fired, unseen = seen_in(situation, options.factor)
        line, right = row(situation, fired)
        print("\n".join([line, *(f"    not seen: {fault}" for fault in unseen)]), flush=True)
        good &= right and not unseen
        seen |= fired
    if not options.only:
        print(f"\nfired in no situation: {', '.join(sorted(set(EXPECTED_ALERTS) - seen)) or '-'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
