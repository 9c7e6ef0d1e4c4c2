"""As a container runs it: process 1, no writable path, any user, with limits of CPU and memory."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench.situations import CGROUPS, MIB, limited
from tests.system.conftest import Servers
from tests.system.harness import APPS, all_pids, process_stat, run_cli, wait_until
from tests.system.test_signals import Load
from tests.system.test_user import open_to_everybody

SOMEBODY = 54321
# A process id namespace of its own, in which every mount is read-only and /proc is new.
SCRIPT = f"""
mount -t tmpfs -o ro none /dev/shm
awk '{{print $5}}' /proc/self/mountinfo | sort -u | while read -r at; do
    case "$at" in /proc*|/sys*|/dev*) ;; *) mount -o remount,bind,ro "$at" 2>/dev/null || true ;; esac
done
exec setpriv --reuid {SOMEBODY} --regid {SOMEBODY} --clear-groups -- "$@"
"""
NAMESPACE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture(scope="module")
def boxed() -> list[str]:
    """A command that runs another one as process 1 of such a box."""
    if os.getuid() != 0:
        pytest.skip("only root can make such a box")
    prefix = [
        *open_to_everybody(Path(sys.base_prefix), Path(sys.prefix), APPS),
        *NAMESPACE, "sh", "-ec", SCRIPT, "sh", "env", "-u", "COVERAGE_PROCESS_CONFIG",
    ]  # fmt: skip
    probe = subprocess.run(
        # Nothing of ours: what fails with that is a failure of the test.
        [*prefix, "true"], cwd="/", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if probe.returncode:
        pytest.skip(f"this kernel makes no such box: {shlex.quote(probe.stderr[-300:])}")
    return prefix


def parent(pid: int) -> int:
    """Whose child it is; 0 when it is gone."""
    stat = process_stat(pid)
    return int(stat[1]) if stat else 0


def below(pid: int) -> dict[int, str]:
    """The states of all processes under this one."""
    stats = {other: stat for other in all_pids() if (stat := process_stat(other))}
    found: dict[int, str] = {}
    above = {pid}
    while above:
        above = {p for p, stat in stats.items() if int(stat[1]) in above and p not in found}
        found.update({p: stats[p][0] for p in above})
    return found


def test_as_process_1_of_a_read_only_root_as_any_user(serve: Servers, boxed: list[str]) -> None:
    """It serves, is scraped, reaps orphans silently, and leaves with 0 at TERM."""
    server = serve("orphans:app", prefix=boxed, cwd=Path("/"), workers=2, metrics=True)
    server.wait_ready()
    [master] = [pid for pid in below(server.pid) if parent(pid) == server.pid]
    assert Path(f"/proc/{master}").stat().st_uid == SOMEBODY
    with server.connect() as connection:
        for size in (0, 10, 3 * MIB):
            connection.request("POST", "/", body=b"x" * size)
            assert connection.response().text == str(size), "the largest goes to a file"
    wait_until(lambda: len(below(master)) == 3, what="orphans reaped")
    assert server.sample("gthreadsrv_requests_total", code="200") == 3
    health = run_cli(
        "health", "--ready", "--metrics-bind", server.metrics_url.removeprefix("http://"),
        cwd=Path("/"), module="gthreadsrv.ctl",
    )  # fmt: skip
    assert (health.returncode, health.stdout) == (0, "ok\n")
    assert server.sample("gthreadsrv_worker_exits_total") == 0
    os.kill(master, signal.SIGTERM)
    assert server.wait_exit() == 0


ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can make control groups")
LIMITS = pytest.mark.skipif(
    not os.access(CGROUPS / "cpu" / "tasks", os.W_OK)
    or not os.access(CGROUPS / "memory" / "tasks", os.W_OK),
    reason="this kernel has no control groups of version 1 that can be written to",
)


@LIMITS
@ROOT
def test_it_is_sized_by_its_limits_and_warns_of_what_cannot_fit(serve: Servers) -> None:
    """Half a CPU, and memory for fewer workers than it may have."""
    limits = {
        "cpu": {"cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": 90_000},
        "memory": {"memory.limit_in_bytes": 100 * MIB},
    }
    with limited(limits) as prefix, ExitStack() as stack:
        server = serve(
            "behaviours:app", "--workers", "1:64", workers=None, threads=None, prefix=prefix
        )
        stack.callback(server.kill)
        [sized] = server.wait_log("sizing")
        assert (sized["cpus"], sized["threads"], sized["most_workers"]) == (1, 3, 64)
        assert sized["cpus_from"].endswith("cpu.cfs_quota_us = 0.9")
        [line] = server.wait_log("memory may not suffice")
        assert line["limit_bytes"] == 100 * MIB
        assert 64 * line["worker_bytes"] > 100 * MIB
        assert server.stop() == 0


@LIMITS
@ROOT
def test_it_warns_where_a_reload_cannot_fit(serve: Servers, tmp_path: Path) -> None:
    """Which boots one worker beside all others: two of more than 100 MiB fit, three do not."""
    conf = tmp_path / "conf.py"
    conf.write_text("def post_worker_init(worker):\n    worker.kept = b'x' * (100 << 20)\n")
    with limited({"memory": {"memory.limit_in_bytes": 300 * MIB}}) as prefix, ExitStack() as stack:
        server = serve("behaviours:app", "-c", str(conf), workers=2, prefix=prefix)
        stack.callback(server.kill)
        [line] = server.wait_log("memory may not suffice")
        assert 2 * line["worker_bytes"] < line["limit_bytes"] < 3 * line["worker_bytes"]
        assert line["detail"].startswith("2 workers of this size fit")
        assert "reload" in line["detail"]
        assert server.stop() == 0


@LIMITS
@ROOT
def test_it_does_not_warn_where_the_workers_fit(serve: Servers) -> None:
    with limited({"memory": {"memory.limit_in_bytes": 2000 * MIB}}) as prefix, ExitStack() as stack:
        server = serve("behaviours:app", workers=2, prefix=prefix)
        stack.callback(server.kill)
        server.wait_workers(2)
        assert server.get("/hello").status == 200
        assert server.stop() == 0
        assert server.logged("memory may not suffice") == []


def test_a_balancer_that_heeds_readiness_loses_no_request(serve: Servers) -> None:
    """From TERM to the exit: 503 on /readyz at once, connections taken until the delay is over."""
    server = serve("behaviours:app", "--drain-delay", "3", workers=2, metrics=True)
    server.wait_workers(2)
    server.wait_ready()
    kept = Load(server, "/sleep?s=0.01", keep_alive=True)
    fresh = Load(server, "/sleep?s=0.01", keep_alive=False)
    for clients in (kept, fresh):
        clients.start()
    try:
        wait_until(lambda: len(kept.answers) > 50 and len(fresh.answers) > 50)
        server.send_signal(signal.SIGTERM)
        told = time.monotonic()
        wait_until(lambda: server.probe("/readyz").status_code == 503, what="not ready")
        assert time.monotonic() - told < 2.0
        seen = len(fresh.answers)
        wait_until(lambda: len(fresh.answers) > seen + 20, what="served meanwhile")
    finally:
        for clients in (kept, fresh):
            clients.stop()
    assert server.wait_exit() == 0
    assert kept.failures == fresh.failures == []
