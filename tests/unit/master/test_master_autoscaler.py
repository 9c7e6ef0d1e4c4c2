"""The autoscaler's readings of a real scoreboard, and what it tells of refusals."""

from __future__ import annotations

import os

import pytest

from gthreadsrv.master import autoscaler
from gthreadsrv.master.autoscale import SAMPLE_S, Bounds
from gthreadsrv.master.autoscaler import Autoscaler
from gthreadsrv_metrics.cgroup import CgroupReading
from gthreadsrv_metrics.layout import M_SCALE_REFUSALS
from gthreadsrv_metrics.scoreboard import Scoreboard

BOUNDS = Bounds(1, 3, 60.0)


class Rig:
    """A board with one worker of two threads, whose pid is this test's."""

    def __init__(self, container: CgroupReading | None = None, cores: float = 1000.0) -> None:
        self.board = Scoreboard(8, 2, [])
        self.lease(0)
        self.container = container or CgroupReading()
        self.scaler = Autoscaler(self.board, BOUNDS, cores, lambda: self.container)
        self.now = 1000.0
        self.threads = [self.board.thread(0, index) for index in (0, 1)]

    def lease(self, slot: int) -> None:
        self.board.master.lease(slot, os.getpid(), 1, 990.0, threads=2)
        self.board.master.set_state(slot, "ready")

    def look(self, target: int = 1, largest: int = 0) -> int:
        """The next look, half a second later."""
        self.now += SAMPLE_S
        decision = self.scaler.look(target, largest, self.now)
        assert decision is not None
        return decision.target


def finish(rig: Rig, queue_s: float) -> None:
    """A request of the first thread that had waited so long."""
    rig.threads[0].finish(rig.now, "GET", 200, rig.now - 0.1, 0.1, queue_s, False, 0, 0)


def test_a_reading_is_the_board_and_the_machine() -> None:
    rig = Rig(CgroupReading(2.5, 7.0, 1, 100, 1000, 0, 50))
    rig.threads[0].begin(999.0)
    rig.threads[1].begin(998.0)
    reading = rig.scaler.read(1, 77, 1000.0)
    assert (reading.ready, reading.threads, reading.busy_s) == (1, 2, 3.0)
    assert (reading.cores, reading.throttled_s) == (2.5, 7.0)
    assert (reading.memory_left, reading.worker_memory) == (950, 77)
    assert reading.cpu_s > 0, "this very process's"
    finish(rig, 0.25)
    reading = rig.scaler.read(1, 77, 1000.0)
    assert (reading.wait_s, reading.started) == (0.25, 1.0)


def test_draining_workers_count_with_the_threads_they_use() -> None:
    """They take nothing new, and their requests are still work."""
    rig = Rig()
    rig.lease(1)
    rig.board.thread(1, 0).begin(999.0)
    rig.board.master.set_state(1, "draining")
    reading = rig.scaler.read(1, 0, 1000.0)
    assert (reading.ready, reading.threads, reading.busy_s) == (1, 3, 1.0)


def test_it_looks_every_half_second_and_no_more() -> None:
    rig = Rig()
    assert rig.look() == 1
    assert rig.scaler.look(1, 0, rig.now + 0.4) is None
    assert rig.scaler.due == rig.now + SAMPLE_S


def test_full_threads_make_it_want_more() -> None:
    rig = Rig()
    for thread in rig.threads:
        thread.begin(990.0)
    assert [rig.look() for _ in range(3)] == [1, 1, 2]


class Log:
    """Keeps warnings."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def warning(self, event: str, **fields: str) -> None:
        assert event == "more workers wanted"
        self.reasons.append(fields["reason"])


def test_a_refusal_is_told_and_counted_once_until_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory for no other worker; then room; then full again."""
    rig = Rig(CgroupReading(memory_usage_bytes=900, memory_limit_bytes=1000))
    for thread in rig.threads:
        thread.begin(990.0)
    counts = rig.board.master_cells[M_SCALE_REFUSALS : M_SCALE_REFUSALS + 3]
    log = Log()
    monkeypatch.setattr(autoscaler, "log", log)
    for _ in range(10):
        assert rig.look(largest=200) == 1
    assert list(counts) == [0, 1, 0]
    for thread in rig.threads:
        thread.abandon(rig.now)
    for _ in range(3):
        rig.look(largest=200)
    for thread in rig.threads:
        thread.begin(rig.now)
    for _ in range(4):
        rig.look(largest=200)
    assert list(counts) == [0, 2, 0]
    assert log.reasons == ["memory", "memory"]


def test_the_window_is_as_long_as_it_has_to_be() -> None:
    """A calm spell, and the second around its beginning."""
    rig = Rig()
    for _ in range(400):
        rig.look()
    assert BOUNDS.calm_s / SAMPLE_S < len(rig.scaler._window) < (BOUNDS.calm_s + 3) / SAMPLE_S


def test_threads_that_are_full_off_and_on_are_one_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine tenths is no sharp edge: four minutes around it are one line and one count, not sixty."""
    rig = Rig(CgroupReading(memory_usage_bytes=900, memory_limit_bytes=1000))
    full, wavering = rig.threads
    full.begin(rig.now)
    counts = rig.board.master_cells[M_SCALE_REFUSALS : M_SCALE_REFUSALS + 3]
    log = Log()
    monkeypatch.setattr(autoscaler, "log", log)
    for turn in range(480):
        wavering.begin(rig.now)
        if turn % 8 < 4:
            rig.look(largest=200)
            wavering.abandon(rig.now)
        else:  # for three fifths of the half second
            wavering.abandon(rig.now + 0.3)
            rig.look(largest=200)
    assert list(counts) == [0, 1, 0]
    assert log.reasons == ["memory"]
