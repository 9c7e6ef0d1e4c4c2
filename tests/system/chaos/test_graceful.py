"""Whatever an operator does, no client notices: no failed request, no reset, every answer counted."""

from __future__ import annotations

import os
import signal
import time
from typing import TypeVar

import pytest

from tests.system.chaos.load import load
from tests.system.chaos.stage import FULL, assert_counted, mood, serve_ledger, tell
from tests.system.conftest import Servers, bind_for
from tests.system.harness import LogLine, process_alive, wait_until

# `make chaos` does a hundred.
RELOADS = int(os.environ.get("CHAOS_RELOADS", "3"))
# Each one may, on a busy machine, take its time.
RELOAD_S = 30.0

Case = TypeVar("Case")


def some(cases: list[Case], count: int) -> list[Case]:
    """All of them in `make chaos`, the first so many in `make test`."""
    return cases if FULL else cases[:count]


@pytest.mark.timeout(120 + RELOADS * RELOAD_S)
@pytest.mark.parametrize(
    ("transport", "preload"),
    some([("tcp", ()), ("unix", ("--preload",)), ("unix", ()), ("tcp", ("--preload",))], 2),
)
def test_reloads(serve: Servers, transport: str, preload: tuple[str, ...]) -> None:
    """HUP again and again."""
    server, ledger = serve_ledger(serve, *preload, bind=(bind_for(transport, serve.folder),))
    slowest = 0.0
    with load(server, ledger, work_ms=1) as clients:
        for count in range(1, RELOADS + 1):
            at = time.monotonic()
            server.send_signal(signal.SIGHUP)
            server.wait_log("reloaded", count, RELOAD_S)
            slowest = max(slowest, time.monotonic() - at)
        clients.wait_more()
        tell(f"{RELOADS} reloads, {transport} {preload}, slowest {slowest:.3f} s", clients)
    clients.assert_nothing_lost()
    assert_counted(server, clients)
    assert server.sample("gthreadsrv_reloads_total", result="ok") == RELOADS
    server.wait_workers(2)


@pytest.mark.parametrize("transport", some(["unix", "tcp"], 1))
def test_growing_shrinking_and_recycling(serve: Servers, transport: str) -> None:
    """TTIN, TTOU and --max-requests with its jitter, all at once."""
    server, ledger = serve_ledger(
        serve, "--max-requests", "150", "--max-requests-jitter", "100",
        bind=(bind_for(transport, serve.folder),),
    )  # fmt: skip
    with load(server, ledger) as clients:
        for wanted, number in (
            (3, signal.SIGTTIN), (4, signal.SIGTTIN), (3, signal.SIGTTOU), (2, signal.SIGTTOU),
        ):  # fmt: skip
            seen = len(server.logged("workers wanted", workers=wanted))
            server.send_signal(number)
            server.wait_log("workers wanted", seen + 1, workers=wanted)
            clients.wait_more(150)
        wait_until(
            lambda: server.sample("gthreadsrv_worker_exits_total", reason="max_requests") >= 3,
            30, "three were replaced",
        )  # fmt: skip
    tell(f"TTIN, TTOU and --max-requests, {transport}", clients)
    clients.assert_nothing_lost()
    assert_counted(server, clients)


@pytest.mark.parametrize(
    ("transport", "delay"), some([("tcp", "0"), ("unix", "0.3"), ("tcp", "0.3"), ("unix", "0")], 2)
)
def test_a_stop(serve: Servers, transport: str, delay: str) -> None:
    """TERM: whoever got in is answered, whoever did not is turned away; exit code 0."""
    server, ledger = serve_ledger(
        serve, "--drain-delay", delay, bind=(bind_for(transport, serve.folder),)
    )
    with load(server, ledger, work_ms=2) as clients:
        before = clients.tally.answered
        at = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        left_s = time.monotonic() - at
        wait_until(lambda: clients.tally.refused, what="refused")
    tell(f"TERM, --drain-delay {delay}, {transport}, left after {left_s:.3f} s", clients)
    assert clients.tally.lost == []
    assert clients.tally.wrong == []
    assert clients.tally.dropped == 0
    if delay != "0":
        assert clients.tally.answered > before


def test_a_stop_in_the_middle_of_a_reload(serve: Servers) -> None:
    """TERM while the new worker imports: it is dropped, the old ones finish what runs."""
    server, ledger = serve_ledger(serve)
    with load(server, ledger, work_ms=2) as clients:
        mood(serve, "hang")
        server.send_signal(signal.SIGHUP)
        server.wait_log("reloading")
        wait_until(lambda: len(server.left_behind()) == 5, what="a third worker boots")
        server.send_signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        wait_until(lambda: clients.tally.refused, what="refused")
    tell("TERM during a reload", clients)
    assert clients.tally.lost == []
    assert clients.tally.wrong == []
    assert clients.tally.dropped == 0


def test_a_reload_into_nothing_that_works(serve: Servers) -> None:
    """Broken code, then a broken file: the old workers serve on, and both are counted."""
    config = serve.folder / "conf.py"
    config.write_text("timeout = 30\n")
    server, ledger = serve_ledger(serve, "--config", str(config))
    workers = server.worker_pids()
    with load(server, ledger) as clients:
        mood(serve, "fail")
        server.send_signal(signal.SIGHUP)
        server.wait_log("reload failed")
        mood(serve, "")
        config.write_text("timeout = (\n")
        server.send_signal(signal.SIGHUP)
        server.wait_log("reload failed", 2)
        clients.wait_more()
    tell("reloads into broken code and a broken file", clients)
    clients.assert_nothing_lost()
    assert_counted(server, clients)
    assert sorted(server.worker_pids()) == sorted(workers)
    assert server.sample("gthreadsrv_reloads_total", result="failed") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGTERM])
def test_a_stop_with_a_request_stuck_in_c(serve: Servers, number: signal.Signals) -> None:
    """INT and QUIT are out at once, TERM after --graceful-timeout; nobody is left."""
    server, _ = serve_ledger(serve, "--graceful-timeout", "1", "--timeout", "0")
    with server.connect() as stuck:
        stuck.request("GET", "/asleep")
        wait_until(lambda: server.sample("gthreadsrv_threads_busy") == 1, what="stuck")
        at = time.monotonic()
        server.send_signal(number)
        assert server.wait_exit() == 0
        left_s = time.monotonic() - at
    print(f"CHAOS {number.name} with a request stuck in C: left after {left_s:.3f} s")
    assert left_s < 5
    assert server.left_behind() == []


def never_fewer(lines: list[LogLine], target: int) -> None:
    """Going by the log, from the first whole fleet on at least so many were ready at any time."""
    ready: set[object] = set()
    whole = False
    for line in lines:
        pid = line.get("worker_pid")
        if line.get("event") == "worker ready":
            ready.add(pid)
        elif line.get("event") in ("worker told to leave", "worker died", "worker left"):
            ready.discard(pid)
        whole = whole or len(ready) >= target
        assert not whole or len(ready) >= target, line


@pytest.mark.parametrize("workers", some([1, 3], 1))
def test_recycling_leaves_no_gap(serve: Servers, workers: int) -> None:
    """At no time fewer are ready, and kept-alive clients that say nothing hold up nobody."""
    server, ledger = serve_ledger(
        serve, "--max-requests", "60", "--log-level", "debug", workers=workers
    )
    idle = [server.connect() for _ in range(10)]
    for connection in idle:
        assert connection.get("/t?token=0").status == 200
    first = server.worker_pids()
    with load(server, ledger) as clients:
        wait_until(
            lambda: server.sample("gthreadsrv_worker_exits_total", reason="max_requests") >= 4,
            30, "four were replaced",
        )  # fmt: skip
    tell(f"--max-requests 60 with {workers} workers", clients)
    clients.assert_nothing_lost()
    wait_until(lambda: not any(process_alive(pid) for pid in first), what="the first have left")
    with server._news:
        lines = list(server.lines)
    never_fewer(lines, workers)
    for connection in idle:
        connection.close()
