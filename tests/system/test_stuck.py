"""Requests past --timeout: seen, interrupted, and no burden to anybody else."""

from __future__ import annotations

import pytest

from tests.system.conftest import Servers
from tests.system.harness import wait_until

APP = "stuck:app"
# A traced thread is not interrupted, so no coverage is measured here.
UNTRACED = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}


def actions(server: object, action: str) -> float:
    return server.sample("gthreadsrv_request_timeouts_total", action=action)


def test_a_request_that_spins_is_interrupted(serve: Servers) -> None:
    """Its stack is logged, its client gets 504, the connection and the worker go on."""
    server = serve(
        APP, "--timeout", "2", workers=1, threads=2, metrics=True, allow_errors=True, env=UNTRACED
    )
    with server.connect() as connection:
        connection.request("GET", "/spin?key=1")
        assert server.get("/").body == b"well\n"
        assert connection.response().status == 504
        assert connection.get("/").body == b"well\n"

    [line] = server.wait_log("request past its timeout")
    assert line["target"] == "/spin?key=1"
    assert "stuck.py" in str(line["stack"])
    wait_until(lambda: actions(server, "interrupted") == 1, what="counted")
    assert actions(server, "logged") == 1
    assert actions(server, "worker_replaced") == 0
    assert server.sample("gthreadsrv_requests_total", method="GET", code="504") == 1
    assert len(server.logged("worker ready")) == 1


def test_an_interruption_that_the_application_swallows_is_counted(serve: Servers) -> None:
    """It was raised, and ended what went on for too long; the answer is the application's."""
    server = serve(
        APP, "--timeout", "1", workers=1, threads=2, metrics=True, allow_errors=True, env=UNTRACED
    )
    with server.connect() as connection:
        assert connection.get("/swallow").body == b"well\n"
        assert connection.get("/").body == b"well\n"

    wait_until(lambda: actions(server, "interrupted") == 1, what="counted")
    assert actions(server, "logged") == 1
    assert actions(server, "worker_replaced") == 0
    assert server.sample("gthreadsrv_requests_total", method="GET", code="504") == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_a_request_stuck_in_c_has_its_worker_replaced(serve: Servers, threads: int) -> None:
    """The new worker is ready before the old one leaves; the stuck request alone is lost."""
    server = serve(
        APP, "--timeout", "2", "--graceful-timeout", "1", workers=1, threads=threads,
        metrics=True, allow_errors=True,
    )  # fmt: skip
    [old] = server.wait_workers(1)
    with server.connect() as connection:
        connection.request("GET", "/asleep")
        server.wait_log("worker ready", 2)
        wait_until(lambda: old not in server.worker_pids(), what="the old worker is gone")
        with pytest.raises((ConnectionError, AssertionError, EOFError)):
            connection.response()

    assert server.get("/").body == b"well\n"
    assert actions(server, "worker_replaced") == 1
    # It is counted when the master has reaped it, and a response after its last byte has left.
    for name, labels in (
        ("gthreadsrv_worker_exits_total", {"reason": "request_timeout"}),
        ("gthreadsrv_requests_total", {"method": "GET", "code": "200"}),
    ):
        wait_until(
            lambda name=name, labels=labels: server.sample(name, **labels) == 1,
            what=f"{name} {labels}\n{server.report()}",
        )


def test_a_stream_that_goes_on_is_not_stuck(serve: Servers) -> None:
    """Twice the timeout, never longer than it without a byte."""
    server = serve(APP, "--timeout", "3", workers=1, threads=1, metrics=True)
    with server.connect() as connection:
        response = connection.get("/drip?7")
    assert response.status == 200
    assert set(response.body) == {ord(".")}
    assert actions(server, "logged") == 0
    assert server.logged("worker silent") == []
