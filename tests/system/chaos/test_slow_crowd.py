"""A crowd of slow clients beside those that are in a hurry."""

from __future__ import annotations

import pytest

from tests.system.chaos.crowd import crowd
from tests.system.chaos.load import load
from tests.system.chaos.stage import FULL, Footprint, exporter_pid, serve_ledger, tell
from tests.system.conftest import Servers, bind_for
from tests.system.harness import wait_until

EACH = 70


@pytest.mark.parametrize("transport", ["tcp", "unix"] if FULL else ["tcp"])
def test_two_hundred_slow_clients(serve: Servers, transport: str) -> None:
    """With two threads in each worker all others are served; the slow are given up, and forgotten."""
    server, ledger = serve_ledger(
        serve, "--header-timeout", "2", "--body-timeout", "1", "--write-timeout", "2",
        bind=(bind_for(transport, serve.folder),), threads=2,
    )  # fmt: skip
    before = Footprint.of([server.pid, exporter_pid(server), *server.worker_pids()])
    with crowd(server.address, EACH, interval_s=0.5) as slow:
        wait_until(lambda: slow.seen.open >= slow.size * 0.9, what=f"they are there: {slow.seen}")
        with load(server, ledger) as clients:
            clients.wait_more(600)
            wait_until(lambda: slow.seen.given_up > EACH, what=f"some are given up: {slow.seen}")
    tell(f"{slow.size} slow clients, {transport}", clients)
    clients.assert_nothing_lost()
    # The slow readers among them may have had an answer in full, which counts as well.
    wait_until(lambda: sum(server.samples("gthreadsrv_connections").values()) == 0, 30, "all left")
    assert server.sample("gthreadsrv_request_errors_total", reason="read_timeout") > 0
    before.assert_back()
