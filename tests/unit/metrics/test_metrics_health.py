"""Alive, ready, started: each No has its reason."""

from __future__ import annotations

import os
from typing import Any

import pytest

from gthreadsrv_metrics import health
from gthreadsrv_metrics.exporter import make_app
from gthreadsrv_metrics.scoreboard import Scoreboard
from gthreadsrv_metrics.sources import Sources
from tests.unit.metrics.fakes import ask

NOW = 1000.0


@pytest.fixture
def board() -> Scoreboard:
    """A board with room for two workers."""
    return Scoreboard(2, 2, [])


def boot(board: Scoreboard, slot: int = 0) -> None:
    """Lease a slot to a worker that becomes ready."""
    board.master.lease(slot, 100, 1, NOW)
    board.master.set_state(slot, "ready")
    board.master.booted(0.5)


def test_the_master_lives() -> None:
    """For its own process and for its children."""
    board = Scoreboard(1, 1, [])
    assert health.live(board, NOW, os.getpid()) is None
    assert health.live(board, NOW, os.getppid()) is None


def test_the_master_is_gone(board: Scoreboard) -> None:
    """An exporter whose parent is another process says so."""
    assert health.live(board, NOW, 2**22 + 1) == f"the master (pid {2**22 + 1}) is gone"


def test_a_master_that_hangs_is_not_alive(board: Scoreboard) -> None:
    """A heartbeat that stopped is told with its age; one that never came is no sign."""
    assert health.live(board, NOW, os.getpid()) is None
    board.master.heartbeat(NOW)
    assert health.live(board, NOW + health.HEARTBEAT_LIMIT_S, os.getpid()) is None
    reason = health.live(board, NOW + 100, os.getpid())
    assert reason == "the master has not been heard of for 100 s"


def test_ready_with_a_ready_worker(board: Scoreboard) -> None:
    """One is enough."""
    boot(board)
    board.master.lease(1, 101, 1, NOW)
    assert health.ready(board, NOW) is None


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ([], "none has been started"),
        (["booting"], "(booting)"),
        (["draining", "booting"], "(booting, draining)"),
    ],
)
def test_not_ready_without_a_ready_worker(
    board: Scoreboard, states: list[str], reason: str
) -> None:
    """The states there are instead are named."""
    for slot, state in enumerate(states):
        board.master.lease(slot, 100 + slot, 1, NOW)
        board.master.set_state(slot, state)
    told = health.ready(board, NOW)
    assert told is not None
    assert told.startswith("no worker is ready")
    assert reason in told


def test_not_ready_when_shutting_down(board: Scoreboard) -> None:
    """From the master's word on, with every worker still serving."""
    boot(board)
    board.master.set_shutting_down()
    assert health.ready(board, NOW) == "shutting down"


def test_not_ready_when_every_ready_worker_is_silent(board: Scoreboard) -> None:
    """A worker that holds its interpreter serves nobody; another one makes up for it."""
    boot(board)
    assert health.ready(board, NOW + 60) == "no ready worker has been heard of for 60 s"
    boot(board, slot=1)
    board.slot(1).heartbeat(NOW + 59)
    assert health.ready(board, NOW + 60) is None


def test_not_ready_when_saturated_beyond_the_limit(board: Scoreboard) -> None:
    """Only if a limit was set, and from that share of busy threads on."""
    boot(board)
    boot(board, slot=1)
    for slot, index in ((0, 0), (0, 1), (1, 0)):
        board.thread(slot, index).begin(NOW)
    assert health.ready(board, NOW) is None
    assert health.ready(board, NOW, 0.8) is None
    assert health.ready(board, NOW, 0.75) == "3 of 4 threads are busy, the limit is 75%"


def test_started_once_a_worker_has_booted(board: Scoreboard) -> None:
    """And for good: a later death is not a new start."""
    board.master.lease(0, 100, 1, NOW)
    assert health.started(board) == "no worker has finished booting yet"
    boot(board)
    board.master.release(0, NOW)
    assert health.started(board) is None


def test_the_endpoints_say_it(board: Scoreboard) -> None:
    """200 with ok, 503 with the reason in one line."""
    app: Any = make_app(board, Sources(monotonic=lambda: NOW, ready_max_saturation=0.5))
    for path in ("/readyz", "/startupz"):
        answer = ask(app, path)
        assert answer.status == "503 Service Unavailable"
        assert answer.text.count("\n") == 1
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    boot(board)
    for path in ("/livez", "/readyz", "/startupz"):
        answer = ask(app, path)
        assert (answer.status, answer.text) == ("200 OK", "ok\n")
    board.thread(0, 0).begin(NOW)
    assert ask(app, "/readyz").text == "1 of 2 threads are busy, the limit is 50%\n"


def test_a_dead_master_is_told_by_the_endpoint(board: Scoreboard) -> None:
    """Through the pid the sources have."""
    app: Any = make_app(board, Sources(master_pid=2**22 + 1))
    assert ask(app, "/livez").status == "503 Service Unavailable"
