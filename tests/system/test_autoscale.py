"""`--workers 1:3` at a real server: up and down under load, and nobody notices."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

from tests.bench.situations import CGROUPS, MIB, limited
from tests.system.conftest import Servers
from tests.system.harness import Server, wait_until
from tests.system.test_container import LIMITS
from tests.system.test_signals import Load

# They keep what else the machine does from being what limits a server.
SHARES = {"cpu": {"cpu.shares": 200_000}}


def metric(server: Server, name: str, **labels: str) -> float:
    return server.sample(f"gthreadsrv_{name}", **labels)


def test_a_burst_is_scaled_up_and_down_without_a_lost_request(serve: Servers) -> None:
    """Four clients over two threads make it three workers; one client makes it one again."""
    server = serve(
        "behaviours:app", "--workers", "1:3", "--scale-down-after", "2",
        workers=None, threads=2, metrics=True,
    )  # fmt: skip
    server.wait_workers(1)
    server.wait_ready()
    assert metric(server, "config_max_workers") == 3
    burst = Load(server, "/sleep?s=0.05", keep_alive=True)
    trickle = Load(server, "/sleep?s=0.02", keep_alive=False)
    trickle._threads = trickle._threads[:1]
    trickle.start()
    try:
        burst.start()
        try:
            wait_until(lambda: len(server.worker_pids()) == 3, 60, what="three workers")
            wait_until(lambda: len({*burst.answers[-12:]}) > 1, 60, what="kept connections moved")
        finally:
            burst.stop()
        wait_until(lambda: len(server.worker_pids()) == 1, 60, what="one worker again")
        seen = len(trickle.answers)
        wait_until(lambda: len(trickle.answers) > seen + 10)
    finally:
        trickle.stop()

    assert (burst.failures, trickle.failures) == ([], [])
    answered = len(burst.answers) + len(trickle.answers)
    wait_until(lambda: metric(server, "requests_total", code="200") == answered, what="counted")
    assert metric(server, "scale_events_total", direction="up") >= 1
    assert metric(server, "scale_events_total", direction="down") == 2
    assert metric(server, "worker_exits_total", reason="scale_down") == 2
    assert metric(server, "workers_target") == 1
    assert metric(server, "connections_closed_total", reason="rebalance") >= 1
    sizes = [line["workers"] for line in server.logged("workers wanted")]
    assert sizes[-2:] == [2, 1]


@LIMITS
def test_it_does_not_grow_into_a_full_cpu(serve: Servers) -> None:
    """Requests that compute, in a container with a part of a CPU: told and counted once."""
    quota = {
        "cpu": {"cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": 50_000, "cpu.shares": 200_000}
    }
    with limited(quota) as prefix, ExitStack() as stack:
        server = serve(
            "troubles:app", "--workers", "1:3",
            workers=None, threads=2, metrics=True, prefix=prefix,
        )  # fmt: skip
        stack.callback(server.kill)
        server.wait_ready()
        clients = Load(server, "/compute?n=0.02", keep_alive=True)
        clients.start()
        try:
            [line] = server.wait_log("more workers wanted", deadline_s=60)
            seen = len(clients.answers)
            wait_until(lambda: len(clients.answers) > seen + 30, 60)
        finally:
            clients.stop()
        assert line["reason"] == "cpu"
        assert clients.failures == []
        assert metric(server, "scale_refusals_total", reason="cpu") == 1
        assert metric(server, "workers_target") == 1
        assert server.stop() == 0
        assert server.logged("workers wanted") == []


@LIMITS
def test_requests_that_compute_in_turns_get_another_interpreter(serve: Servers) -> None:
    """Four at once in one worker of eight threads: none waits for a thread, each for the others."""
    with limited(SHARES) as prefix, ExitStack() as stack:
        server = serve(
            "troubles:app", "--workers", "1:2",
            workers=None, threads=8, metrics=True, prefix=prefix,
            env={"PYTHON_CPU_COUNT": "4"},
        )  # fmt: skip
        stack.callback(server.kill)
        server.wait_ready()
        clients = Load(server, "/compute?n=0.2", keep_alive=True)
        clients.start()
        try:
            [line] = server.wait_log("workers wanted", deadline_s=60)
            server.wait_workers(2)
            wait_until(lambda: len({*clients.answers[-12:]}) > 1, 60, what="kept connections moved")
        finally:
            clients.stop()
        assert (line["workers"], line["reason"]) == (2, "saturated")
        assert clients.failures == []
        assert server.stop() == 0


# Each worker takes this much as it boots, so that its first figure tells of it.
HEAVY = """
def post_worker_init(worker):
    worker.kept = b"x" * (100 << 20)
"""


@LIMITS
def test_it_does_not_grow_into_full_memory(serve: Servers, tmp_path: Path) -> None:
    """Full threads, and room for less than one worker more; with more room there is another."""
    conf = tmp_path / "conf.py"
    conf.write_text(HEAVY)
    with (
        limited({**SHARES, "memory": {"memory.limit_in_bytes": 220 * MIB}}) as prefix,
        ExitStack() as stack,
    ):
        server = serve(
            "behaviours:app", "-c", str(conf), "--workers", "1:2",
            workers=None, threads=2, metrics=True, prefix=prefix,
        )  # fmt: skip
        stack.callback(server.kill)
        server.wait_ready()
        limit = CGROUPS / "memory" / f"gthreadsrv-{os.getpid()}" / "memory.limit_in_bytes"
        clients = Load(server, "/sleep?s=0.05", keep_alive=True)
        clients.start()
        try:
            [line] = server.wait_log("more workers wanted", deadline_s=60)
            assert (line["reason"], line["workers"]) == ("memory", 1)
            assert "would not fit into the container's memory" in line["detail"]
            seen = len(clients.answers)
            wait_until(lambda: len(clients.answers) > seen + 200, 60)
            assert metric(server, "scale_refusals_total", reason="memory") == 1
            assert metric(server, "scale_refusals_total") == 1
            assert metric(server, "workers_target") == 1
            assert server.logged("workers wanted") == []

            limit.write_text(str(600 * MIB))
            server.wait_workers(2)
        finally:
            clients.stop()
        assert clients.failures == []
        assert metric(server, "cgroup_oom_kills_total") == 0
        assert server.stop() == 0


@LIMITS
def test_growth_leaves_room_for_a_replacement(serve: Servers, tmp_path: Path) -> None:
    """Where one worker more would fit and no other beside it, a reload would be killed for memory."""
    conf = tmp_path / "conf.py"
    conf.write_text(HEAVY)
    with (
        limited({**SHARES, "memory": {"memory.limit_in_bytes": 330 * MIB}}) as prefix,
        ExitStack() as stack,
    ):
        server = serve(
            "behaviours:app", "-c", str(conf), "--workers", "1:2",
            workers=None, threads=2, metrics=True, prefix=prefix,
        )  # fmt: skip
        stack.callback(server.kill)
        server.wait_ready()
        clients = Load(server, "/sleep?s=0.05", keep_alive=True)
        clients.start()
        try:
            wait_until(lambda: len(clients.answers) > 200, 60)
            server.wait_log("more workers wanted", reason="memory")
            server.send_signal(signal.SIGHUP)
            server.wait_log("reloaded", deadline_s=60)
        finally:
            clients.stop()
        assert clients.failures == []
        assert metric(server, "cgroup_oom_kills_total") == 0
        assert server.stop() == 0


def test_signals_move_within_the_bounds_and_a_reload_keeps_what_is_wanted(
    serve: Servers, tmp_path: Path
) -> None:
    """TTIN and TTOU are one step; HUP reads new bounds, which hold at once."""
    conf = tmp_path / "conf.py"
    conf.write_text("workers = '1:2'\nscale_down_after = 600\n")
    server = serve("behaviours:app", "-c", str(conf), workers=None)
    server.wait_workers(1)
    server.send_signal(signal.SIGTTIN)
    server.wait_workers(2)
    server.send_signal(signal.SIGTTIN)
    server.wait_log("the number of workers stays", workers=2)
    server.send_signal(signal.SIGHUP)
    server.wait_log("reloaded")
    server.wait_workers(2)
    conf.write_text("workers = '3:4'\n")
    server.send_signal(signal.SIGHUP)
    server.wait_log("reloaded", 2)
    server.wait_workers(3)
    server.send_signal(signal.SIGTTOU)
    server.wait_log("the number of workers stays", workers=3)
