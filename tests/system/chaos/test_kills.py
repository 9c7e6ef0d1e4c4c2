"""Processes that die or stand still under load: only what they ran is lost."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.system.chaos.load import load
from tests.system.chaos.stage import (
    WHOLE_S,
    Footprint,
    assert_counted,
    exporter_pid,
    serve_ledger,
    tell,
)
from tests.system.conftest import Servers, bind_for
from tests.system.harness import process_alive, wait_until
from tests.system.test_upgrade import end, upgrade

THREADS = 4


def test_a_killed_worker(serve: Servers) -> None:
    """Its requests are lost, nobody else's; within a second there is another."""
    server, ledger = serve_ledger(serve, threads=THREADS)
    before = Footprint.of([server.pid, exporter_pid(server), *server.worker_pids()])
    killed: set[int] = set()
    slowest = 0.0
    with load(server, ledger, work_ms=2) as clients:
        started = time.monotonic()
        for round_number in range(1, 4):
            victim = server.worker_pids()[0]
            killed.add(victim)
            at = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            server.wait_log("worker ready", 2 + round_number)
            slowest = max(slowest, time.monotonic() - at)
            clients.wait_more()
        ended = time.monotonic()
    tell("kill -9 of a worker, three times", clients, slowest)
    clients.assert_lost_only_with(killed, started, ended)
    assert slowest < WHOLE_S
    assert_counted(server, clients, THREADS * len(killed))
    assert server.sample("gthreadsrv_worker_exits_total", reason="signal") == len(killed)
    before.assert_back()


def test_a_stopped_worker(serve: Servers) -> None:
    """Its clients wait until it is given up; the others do not notice."""
    server, ledger = serve_ledger(serve, "--timeout", "1", threads=THREADS)
    before = Footprint.of([server.pid, exporter_pid(server), *server.worker_pids()])
    victim, other = server.worker_pids()
    with load(server, ledger, work_ms=2) as clients:
        started = time.monotonic()
        os.kill(victim, signal.SIGSTOP)
        server.wait_log("worker silent")
        silent = time.monotonic()
        server.wait_log("worker ready", 3)
        whole_s = time.monotonic() - silent
        wait_until(lambda: not process_alive(victim), what="the stopped one is gone")
        clients.wait_more()
        ended = time.monotonic()
    tell("SIGSTOP of a worker", clients, whole_s)
    clients.assert_lost_only_with({victim}, started, ended)
    assert clients.tally.by_pid[other] > 0
    assert whole_s < WHOLE_S
    assert_counted(server, clients, THREADS)
    assert server.sample("gthreadsrv_worker_exits_total", reason="heartbeat") == 1
    before.assert_back()


def test_a_killed_exporter(serve: Servers) -> None:
    """It comes back with every count; nobody else notices."""
    server, ledger = serve_ledger(serve, threads=THREADS)
    workers = server.worker_pids()
    before = Footprint.of([server.pid, *workers])
    with load(server, ledger) as clients:
        for _ in range(2):
            victim = exporter_pid(server)
            at = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda victim=victim: not process_alive(victim))
            server.wait_ready()
            whole_s = time.monotonic() - at
            clients.wait_more()
    tell("kill -9 of the exporter, twice", clients, whole_s)
    clients.assert_nothing_lost()
    assert whole_s < WHOLE_S
    assert_counted(server, clients)
    assert server.wait_workers(2) == workers
    before.assert_back()


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_a_killed_master(serve: Servers, transport: str) -> None:
    """Workers notice, answer everybody who got in, and are gone; nobody is reset."""
    server, ledger = serve_ledger(serve, bind=(bind_for(transport, serve.folder),), threads=THREADS)
    with load(server, ledger, work_ms=2) as clients:
        address = server.address
        at = time.monotonic()
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
        wait_until(lambda: server.left_behind() == [], what="everybody has left")
        gone_s = time.monotonic() - at
        wait_until(lambda: clients.tally.refused, what=f"{address} is refused")
    tell(f"kill -9 of the master, {transport}", clients)
    print(f"CHAOS everybody had left after {gone_s:.3f} s")
    assert clients.tally.lost == []
    assert clients.tally.wrong == []
    assert clients.tally.dropped == 0
    assert gone_s < 2 * WHOLE_S


def test_an_old_master_killed_beside_its_successor(serve: Servers) -> None:
    """In the middle of an upgrade: its workers leave, the sockets are the new ones' alone."""
    server, ledger = serve_ledger(serve, threads=THREADS)
    old = server.worker_pids()
    with load(server, ledger, work_ms=2) as clients:
        new = upgrade(server)
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
        wait_until(lambda: not any(process_alive(pid) for pid in old), what="old workers left")
        clients.wait_more()
    tell("kill -9 of the old master in an upgrade", clients)
    clients.assert_nothing_lost()
    end(new)
