"""The life of workers: crashes, recycling, a lost master; what clients see of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.system.client import ClosedError
from tests.system.conftest import Servers
from tests.system.harness import process_alive, wait_until
from tests.system.test_signals import held, load, write_app


def test_crashed_worker_is_replaced(serve: Servers) -> None:
    """A worker that dies takes its own request with it; the others serve on, and it comes back."""
    server = serve("behaviours:app", workers=2, allow_errors=True)
    before = server.wait_workers(2)
    with server.connect() as victim:
        victim.request("GET", "/kill")
        with pytest.raises((ClosedError, ConnectionError)):
            victim.response()
    wait_until(lambda: sum(process_alive(pid) for pid in before) == 1)
    assert server.get("/hello").body == b"hello\n"
    after = server.wait_workers(2)

    assert len(set(before) & set(after)) == 1
    assert server.process.poll() is None


def test_crashes_again_and_again_do_not_end_the_server(serve: Servers) -> None:
    """Whatever dies, and however often, the master stays and the fleet is whole again."""
    server = serve("behaviours:app", workers=2, allow_errors=True)
    for _ in range(4):
        for pid in server.wait_workers(2):
            os.kill(pid, signal.SIGKILL)
    server.wait_workers(2)

    assert server.get("/hello").body == b"hello\n"


def test_a_later_import_failure_does_not_end_the_server(serve: Servers) -> None:
    """Once it has served, a respawn that cannot import backs off; the other workers serve."""
    write_app(serve.folder, "ANSWER = b'fine'")
    server = serve("changing:app", "--chdir", str(serve.folder), workers=2, allow_errors=True)
    first, second = server.wait_workers(2)
    write_app(serve.folder, "raise RuntimeError('broken on purpose')")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: "broken on purpose" in server.report())

    assert server.get("/").body == b"fine"
    assert process_alive(second)
    write_app(serve.folder, "ANSWER = b'fine'")
    assert second in server.wait_workers(2)


def test_max_requests_recycles_without_a_failed_request(serve: Servers) -> None:
    """Workers are replaced after so many requests, and clients under load do not notice."""
    server = serve(
        "behaviours:app", "--max-requests", "40", "--max-requests-jitter", "20", workers=2
    )
    before = server.wait_workers(2)
    with load(server) as clients:
        wait_until(lambda: len(clients.answers) > 400)
    wait_until(lambda: not any(process_alive(pid) for pid in before))

    assert clients.failures == []
    server.wait_workers(2)


def test_max_requests_with_one_worker_leaves_no_gap(serve: Servers) -> None:
    """The replacement is ready before the only worker goes, even while that is still busy."""
    server = serve(
        "behaviours:app", "--max-requests", "3", workers=1, threads=2,
        env={"RECORD": str(serve.folder / "record")},
    )  # fmt: skip
    [old] = server.wait_workers(1)
    with held(server, serve.folder) as (connection, go_on):
        for _ in range(10):
            assert server.get("/hello").body == b"hello\n"
        wait_until(lambda: len(server.worker_pids()) == 2, what="a replacement beside the old one")
        go_on.touch()
        assert connection.response().text == str(old)
    wait_until(lambda: not process_alive(old))


def test_workers_leave_when_their_master_is_gone(serve: Servers) -> None:
    """A killed master leaves no orphans: workers finish what runs and go."""
    server = serve(
        "behaviours:app", workers=2, metrics=True, allow_errors=True,
        env={"RECORD": str(serve.folder / "record")},
    )  # fmt: skip
    server.wait_workers(2)
    server.wait_ready()
    with held(server, serve.folder) as (connection, go_on):
        server.process.kill()
        server.process.wait()
        go_on.touch()
        assert connection.response().status == 200
    wait_until(lambda: server.left_behind() == [], deadline_s=5, what="everybody left")


def test_a_killed_exporter_comes_back(serve: Servers) -> None:
    """The metrics process is replaced when it dies; requests do not notice."""
    server = serve("behaviours:app", workers=1, metrics=True, allow_errors=True)
    [worker] = server.wait_workers(1)
    server.wait_ready()
    [exporter] = set(server.left_behind()) - {server.pid, worker}
    with load(server) as clients:
        os.kill(exporter, signal.SIGKILL)
        wait_until(lambda: not process_alive(exporter))
        server.wait_ready()

    assert clients.failures == []
    assert server.wait_workers(1) == [worker]


def test_orphans_are_reaped_as_pid_1_would(serve: Servers) -> None:
    """A child the application left behind never stays a zombie below its worker or master."""
    server = serve("forking:app", workers=1)
    child = int(server.get("/").text)
    wait_until(lambda: not Path(f"/proc/{child}").exists(), what="child reaped")

    assert server.get("/").status == 200
