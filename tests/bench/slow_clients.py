"""What thousands of slow clients cost the others: p99 with them and without.

    python -m tests.bench.slow_clients [--each 1667] [--rounds 3] [--by own|slowhttptest]

Slow heads, slow bodies and slow readers, so many of each, are a process of their own (`own`: our
crowd; `slowhttptest`: the program, one process of it for each kind). Clients in a hurry ask at a
fixed rate on kept-alive connections; a late answer counts from when it should have been asked
for. Rounds with and without the crowd take turns. Fails when the median p99 with it is more than
1.5 times that without.

The crowd computes only what the server and the clients in a hurry leave of the machine, which should
do nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.system.chaos.crowd import KINDS
from tests.system.client import Connection
from tests.system.harness import Server, open_socket, running, wait_until

LIMIT = 1.5
WORKERS = 2
CLIENTS = 4
RATE = 50.0
"""Requests a second of each client."""
# Under a limit of 20,000 descriptors this leaves room in each worker for all of the crowd.
CONNECTIONS = 9000
SLOWHTTPTEST = {"head": "-H", "body": "-B", "read": "-X"}


def hurry(address: str, seconds: float) -> list[float]:
    """Ask at a fixed rate; how long each answer took from when it was due."""
    took: list[float] = []
    lock = threading.Lock()

    def ask(offset_s: float) -> None:
        mine: list[float] = []
        with Connection(open_socket(address, 60)) as connection:
            start = time.monotonic() + offset_s
            for number in range(int(seconds * RATE)):
                due = start + number / RATE
                time.sleep(max(0.0, due - time.monotonic()))
                assert connection.get("/t?token=0").status == 200
                mine.append(time.monotonic() - due)
        with lock:
            took.extend(mine)

    clients = [threading.Thread(target=ask, args=(n / CLIENTS / RATE,)) for n in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert len(took) == CLIENTS * int(seconds * RATE), "a request failed"
    return took


def p99(took: list[float]) -> float:
    """Of these, in milliseconds."""
    return statistics.quantiles(took, n=100)[98] * 1000


def connections(server: Server) -> float:
    """What the server holds."""
    return sum(server.samples("gthreadsrv_connections").values())


def _elsewhere(pid: int) -> None:
    """Let a crowd compute only when nobody else wants to: in life it has machines of its own.

    sched(7): where sessions are scheduled as groups, SCHED_IDLE counts within a group only, and
    a group has a nice value of its own; so the crowd is a session of its own.
    """
    os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    group = Path(f"/proc/{pid}/autogroup")
    if group.exists():
        group.write_text("19")


@contextlib.contextmanager
def own_crowd(server: Server, each: int, interval_s: float, kinds: Sequence[str]) -> Iterator[None]:
    """Our own, which is as large as it can be when the block begins."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.system.chaos.crowd", server.address,
         "--each", str(each), "--interval", str(interval_s), "--kinds", *kinds],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    _elsewhere(process.pid)
    assert process.stdin is not None
    assert process.stdout is not None
    last = ""

    def listen() -> None:
        nonlocal last
        for line in process.stdout or ():
            last = line

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        wait_until(lambda: connections(server) >= each * len(kinds) * 0.95, 120, "the crowd")
        yield
        came, _, given_up, refused = last.split()
        print(f"    crowd: {came} connected, {given_up} given up by the server, {refused} refused")
    finally:
        process.stdin.close()
        process.wait(60)
        listener.join()


@contextlib.contextmanager
def slowhttptest_crowd(
    server: Server, each: int, interval_s: float, kinds: Sequence[str]
) -> Iterator[None]:
    """The program's: it opens connections at a rate and holds them until they are closed."""
    processes = [
        subprocess.Popen(
            ["slowhttptest", flag, "-c", str(each), "-r", str(max(50, each // 5)), "-l", "600",
             "-i", str(max(1, round(interval_s))), "-x", "24", "-p", "5", "-w", "512", "-y", "1024",
             "-n", "5", "-z", "32", "-k", "1",
             "-u", server.base_url + ("/blob?n=1000000" if kind == "read" else "/t")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for kind, flag in SLOWHTTPTEST.items()
        if kind in kinds
    ]  # fmt: skip
    for process in processes:
        _elsewhere(process.pid)
    try:
        wait_until(lambda: connections(server) >= each * len(kinds) * 0.8, 120, "the crowd")
        print(f"    slowhttptest: {connections(server):.0f} connections")
        yield
    finally:
        for process in processes:
            process.terminate()
            process.wait(60)


def main() -> int:
    """Measure and compare; 1 when the crowd costs too much."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--each", type=int, default=1667, help="slow clients of each kind")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="length of a round's half")
    parser.add_argument("--interval", type=float, default=10.0, help="between a slow one's bytes")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--by", choices=("own", "slowhttptest"), default="own")
    options = parser.parse_args()
    if options.by == "slowhttptest" and not shutil.which("slowhttptest"):
        parser.error("slowhttptest is not installed: apt-get install slowhttptest")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    make_crowd = own_crowd if options.by == "own" else slowhttptest_crowd
    without: list[float] = []
    beside: list[float] = []
    # The clients in a hurry are a process of their own: this one reads the server's log, a line
    # for each of the crowd that is ended, in the same interpreter.
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(
        1, mp_context=get_context("spawn")
    ) as apart, running(
        "ledger:app", "--worker-connections", str(CONNECTIONS),
        cwd=Path(folder), workers=WORKERS, threads=4, metrics=True,
    ) as server:  # fmt: skip
        server.wait_ready()

        def p99_of_hurry() -> float:
            return p99(apart.submit(hurry, server.address, options.seconds).result())

        apart.submit(hurry, server.address, 2.0).result()
        for number in range(1, options.rounds + 1):
            without.append(p99_of_hurry())
            with make_crowd(server, options.each, options.interval, options.kinds):
                beside.append(p99_of_hurry())
                held = connections(server)
            print(
                f"round {number}: p99 {without[-1]:.2f} ms alone, {beside[-1]:.2f} ms beside"
                f" {held:.0f} connections", flush=True,
            )  # fmt: skip
            wait_until(lambda: connections(server) == 0, 60, "the crowd has left")
    ratio = statistics.median(beside) / statistics.median(without)
    print(
        f"{len(options.kinds) * options.each} slow clients ({options.by}): p99 {statistics.median(beside):.2f} ms,"
        f" without them {statistics.median(without):.2f} ms: {ratio:.2f} times, limit {LIMIT}"
    )
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
