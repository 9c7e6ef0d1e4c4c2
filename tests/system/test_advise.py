"""`gthreadsrvctl advise` at a real server, in staged situations."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.bench.situations import CGROUPS, MIB, limited
from tests.system.client import Connection
from tests.system.conftest import Servers
from tests.system.harness import Server, clean_environment, wait_until
from tests.system.test_container import LIMITS
from tests.system.test_signals import held


def advice(server: Server, seconds: float = 1.0) -> str:
    """What is said of so many seconds."""
    done = subprocess.run(
        [
            sys.executable, "-m", "gthreadsrv.ctl", "advise", "--seconds", str(seconds),
            "--metrics-bind", server.metrics_url.removeprefix("http://"),
        ],
        env=clean_environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def asking(
    server: Server, path: str, clients: int, fields: Callable[[], dict[str, str]] = dict
) -> Iterator[None]:
    """So many clients that ask again and again; inside, each has been answered once."""
    ended = threading.Event()
    begun = threading.Barrier(clients + 1)

    def ask() -> None:
        with server.connect(timeout_s=30) as connection:
            one(connection)
            begun.wait(60)
            while not ended.is_set():
                one(connection)

    def one(connection: Connection) -> None:
        connection.request("GET", path, fields())
        assert connection.response().status == 200

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_it_has_nothing_to_say_of_a_calm_server(serve: Servers) -> None:
    server = serve("behaviours:app", workers=1, threads=4, metrics=True)
    with asking(server, "/sleep?s=0.05", 1):
        assert advice(server) == ""


def test_it_asks_for_threads_where_they_wait(serve: Servers) -> None:
    server = serve("behaviours:app", workers=1, threads=2, metrics=True)
    with asking(server, "/sleep?s=0.05", 8):
        said = said_of(server, "threads")
    assert "raise --threads from 2 to" in said


def said_of(server: Server, limit: str) -> str:
    """The advice about this limit, once there is one; a busy machine may take a few looks."""

    def found() -> str | None:
        lines = advice(server).splitlines()
        return next((line for line in lines if line.startswith(f"{limit}: ")), None)

    return wait_until(found, deadline_s=45, what=f"advice about {limit}")


def number(pattern: str, text: str) -> float:
    """A number in the advice."""
    match = re.search(pattern, text)
    assert match, text
    return float(match[1])


@LIMITS
@pytest.mark.alone
def test_it_asks_for_workers_where_threads_wait_for_the_interpreter(serve: Servers) -> None:
    """One worker's interpreter is busy, and there are CPUs left."""
    # The shares keep what else the machine does from being what limits it.
    with limited({"cpu": {"cpu.shares": 200_000}}) as prefix, ExitStack() as stack:
        server = serve("troubles:app", workers=1, threads=4, metrics=True, prefix=prefix)
        stack.callback(server.kill)
        with asking(server, "/compute?n=0.02", 6):
            said = said_of(server, "workers")
        assert server.stop() == 0
    assert "raise --workers from 1 to 2" in said
    assert 0.8 <= number(r"; ([0-9.]+) cores in each worker", said) <= 1.3
    assert number(r"mean wait (\d+) ms", said) > 0


@LIMITS
@pytest.mark.alone
def test_it_asks_for_threads_where_they_compute_without_the_interpreter(serve: Servers) -> None:
    """As hashing and scaling pictures do: a worker uses a whole CPU, and nobody takes turns."""
    with limited({"cpu": {"cpu.shares": 200_000}}) as prefix, ExitStack() as stack:
        server = serve("troubles:app", workers=1, threads=1, metrics=True, prefix=prefix)
        stack.callback(server.kill)
        with asking(server, "/digest?n=0.05", 3):
            said = said_of(server, "threads")
        assert server.stop() == 0
    assert "raise --threads from 1 to 2" in said
    assert "threads compute, most of the time without the interpreter" in said
    assert number(r"threads compute (\d+)% of their time", said) > 50


@LIMITS
@pytest.mark.alone
def test_it_asks_for_workers_though_threads_are_free(serve: Servers) -> None:
    """Three requests that compute in turns, in one worker with threads to spare."""
    with limited({"cpu": {"cpu.shares": 200_000}}) as prefix, ExitStack() as stack:
        server = serve("troubles:app", workers=1, threads=8, metrics=True, prefix=prefix)
        stack.callback(server.kill)
        with asking(server, "/compute?n=0.02", 3):
            said = said_of(server, "workers")
        assert server.stop() == 0
    assert "raise --workers from 1 to 2" in said
    assert number(r"threads busy (\d+)%", said) < 70


@LIMITS
@pytest.mark.alone
def test_it_asks_for_quota_where_the_kernel_holds_it_back(serve: Servers) -> None:
    """Half a CPU for requests that compute."""
    # The shares keep what else the machine does from being what limits it.
    quota = {
        "cpu": {"cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": 50_000, "cpu.shares": 200_000}
    }
    with limited(quota) as prefix, ExitStack() as stack:
        server = serve("troubles:app", workers=1, threads=2, metrics=True, prefix=prefix)
        stack.callback(server.kill)
        with asking(server, "/compute?n=0.02", 2):
            said = said_of(server, "quota")
        assert "raise its CPU limit" in said
        assert number(r"throttled (\d+)% of the time", said) > 5
        assert "limit 0.5 cores" in said
        assert server.stop() == 0


@LIMITS
def test_it_asks_for_memory_where_workers_hold_it(serve: Servers) -> None:
    """A worker that has kept most of what the container may have."""
    with limited({"memory": {"memory.limit_in_bytes": 300 * MIB}}) as prefix, ExitStack() as stack:
        server = serve("troubles:app", workers=1, threads=2, metrics=True, prefix=prefix)
        stack.callback(server.kill)
        server.wait_ready()
        usage = CGROUPS / "memory" / f"gthreadsrv-{os.getpid()}" / "memory.usage_in_bytes"
        # Before anybody asks for metrics: a worker's memory is measured every ten seconds.
        while int(usage.read_text()) < 285 * MIB:
            server.get("/keep?n=4")
        said = said_of(server, "memory")
        assert "run fewer --workers" in said
        assert number(r"(\d+) of 300 MiB used", said) > 270
        assert number(r"workers hold (\d+) MiB", said) > 210
        assert "0 killed for memory" in said
        assert server.stop() == 0


def test_it_tells_of_connections_that_wait_in_the_kernel(serve: Servers) -> None:
    """Twelve, where sixteen may: the only thread is busy."""
    server = serve(
        "behaviours:app", "--backlog", "16", workers=1, threads=1, metrics=True,
        env={"RECORD": str(serve.folder / "record")},
    )  # fmt: skip
    server.wait_ready()
    with held(server, serve.folder) as (connection, go_on), ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(server.connect())
        said = said_of(server, "backlog")
        go_on.touch()
        assert connection.response().status == 200
    assert "--backlog" in said
    assert "12 of 16 waiting" in said
    assert "0 dropped" in said


def test_it_tells_of_time_lost_in_the_proxy(serve: Servers) -> None:
    """By the time at which a trusted proxy had the request."""
    server = serve("behaviours:app", workers=1, threads=4, metrics=True)
    server.wait_ready()
    with asking(server, "/sleep?s=0.02", 2, lambda: {"X-Request-Start": f"t={time.time() - 0.5}"}):
        said = said_of(server, "proxy")
    assert "look at the proxy's connections" in said
    assert 500 <= number(r"(\d+) ms from the proxy's X-Request-Start", said) < 1500
    assert number(r"(\d+) ms of it here", said) < 125


def test_nobody_there_is_said_in_one_line(serve: Servers) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gthreadsrv.ctl", "advise", "--metrics-bind", "127.0.0.1:1"],
        env=clean_environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("gthreadsrvctl: error: 127.0.0.1:1 does not answer")
    assert done.stderr.count("\n") == 1
