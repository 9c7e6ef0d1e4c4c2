"""Killed in the middle of a write, or read there: every single store is tried."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

from gthreadsrv_metrics.layout import T_BUSY, T_SEQUENCE
from gthreadsrv_metrics.reading import FleetReading, read_fleet
from gthreadsrv_metrics.scoreboard import Scoreboard, ThreadRow

NOW = 1000.0
REQUEST: dict[str, Any] = {
    "method": "GET", "status": 200, "started": NOW - 0.02, "app_s": 0.01, "queue_s": 0.001,
    "kernel": True, "body_in": 10, "body_out": 20,
}  # fmt: skip


class Killed(Exception):
    """The process is gone."""


class DyingCells:
    """A row's cells whose process is killed before its n-th store."""

    def __init__(self, cells: Any, stores: int) -> None:
        self.cells = cells
        self.stores = stores

    def __getitem__(self, index: Any) -> Any:
        return self.cells[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        if self.stores == 0:
            raise Killed
        self.stores -= 1
        self.cells[index] = value

    def cast(self, _format: str) -> Any:
        return self.cells.cast("B")


def board_with_history() -> Scoreboard:
    """A board on which one request was finished and a second one runs."""
    board = Scoreboard(1, 1, [])
    board.master.lease(0, 1, 1, NOW - 10)
    row = board.thread(0, 0)
    row.begin(NOW - 5)
    row.finish(NOW - 4, **(REQUEST | {"started": NOW - 5}))
    return board


def stores_of_finish() -> int:
    """Return how many stores a finish() makes."""
    cells = DyingCells(board_with_history().thread_cells(0, 0), 1000)
    row = ThreadRow(cells)  # type: ignore[arg-type]
    row.begin(NOW - 1)
    before = cells.stores
    row.finish(NOW, **REQUEST)
    return before - cells.stores


def counts(fleet: FleetReading) -> dict[str, float]:
    """Return the counters of a reading that could disagree."""
    return {
        "requests": fleet.slots[0].requests,
        "duration": sum(sum(cells[1:]) for cells in fleet.durations.values()),
        "application": sum(fleet.application[1:]),
        "queue": sum(fleet.queue["kernel"][1:]),
        "bytes": fleet.body_out / 20,
    }


@pytest.mark.parametrize("stores", range(stores_of_finish() + 1))
def test_killed_before_any_store_of_finish(stores: int) -> None:
    """Whatever the last store was, counters agree to one request and go on from there.

    requests_total and the histogram agree exactly; the others are at most this request
    behind; busy time ends when the process is reaped; the row can be read and written again.
    """
    board = board_with_history()
    row = ThreadRow(DyingCells(board.thread_cells(0, 0), stores + 2))  # type: ignore[arg-type]
    row.begin(NOW - 1)
    try:
        row.finish(NOW, **REQUEST)
    except Killed:
        pass
    before = counts(read_fleet(board, NOW))
    board.master.release(0, NOW)

    fleet = read_fleet(board, NOW + 10)
    after = counts(fleet)
    assert after == before
    assert after["requests"] == after["duration"] == (1 if stores < 2 else 2)
    for name in ("application", "queue", "bytes"):
        assert after["requests"] - 1 <= after[name] <= after["requests"]
    assert fleet.slots[0].busy_s == pytest.approx(2)
    assert board.thread_cells(0, 0)[T_SEQUENCE] % 2 == 0

    board.master.lease(0, 2, 2, NOW + 10)
    successor = board.thread(0, 0)
    successor.begin(NOW + 10)
    successor.finish(NOW + 11, **(REQUEST | {"started": NOW + 10}))
    fleet = read_fleet(board, NOW + 20)
    assert counts(fleet)["requests"] == after["requests"] + 1
    assert fleet.slots[0].busy_s == pytest.approx(3)


@pytest.mark.parametrize("stores", range(6))
def test_killed_while_beginning(stores: int) -> None:
    """Killed inside begin() the thread was either idle or busy, never something between."""
    board = board_with_history()
    row = ThreadRow(DyingCells(board.thread_cells(0, 0), stores))  # type: ignore[arg-type]
    try:
        row.begin(NOW)
    except Killed:
        pass
    slot = read_fleet(board, NOW + 3).slots[0]
    assert slot.busy_s == pytest.approx(1 if stores < 2 else 4)
    assert slot.oldest_request_s == pytest.approx(0 if stores < 2 else 3)


def test_a_stopped_writer_does_not_block_the_reader() -> None:
    """A row left odd is read as it is, and nothing on it is lost."""
    board = board_with_history()
    board.thread_cells(0, 0)[T_SEQUENCE] += 1
    assert read_fleet(board, NOW).slots[0].requests == 1


def test_a_row_is_read_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy during which the row changed is thrown away for one of a row at rest."""
    board = board_with_history()
    cells = board.thread_cells(0, 0)
    row = board.thread(0, 0)
    row.begin(NOW - 1)
    reads = 0

    class Racing:
        """Cells of which each first copy comes from the middle of a finish()."""

        def __getitem__(self, index: Any) -> Any:
            nonlocal reads
            if isinstance(index, slice):
                reads += 1
                if reads == 1:
                    torn = bytearray(cells[index].tobytes())
                    row.finish(NOW, **REQUEST)
                    return memoryview(torn)
            return cells[index]

    monkeypatch.setattr(board, "thread_cells", lambda *_: Racing())
    fleet = read_fleet(board, NOW)
    assert reads == 2
    assert len(set(counts(fleet).values())) == 1
    assert counts(fleet)["requests"] == 2


def test_readings_of_a_busy_row_are_consistent() -> None:
    """A reader racing a writer in another process sees counters that agree, and only grow."""
    board = Scoreboard(1, 1, [])
    board.master.lease(0, 1, 1, NOW)
    pid = os.fork()
    if pid == 0:
        try:
            row = board.thread(0, 0)
            while True:
                row.begin(NOW)
                row.finish(NOW + 0.001, **REQUEST)
        finally:
            os._exit(0)
    # The child would outlive a failing test.
    killer = threading.Timer(20.0, os.kill, (pid, signal.SIGKILL))
    killer.start()
    try:
        last = 0.0
        agreed = 0
        for _ in range(2000):
            found = counts(read_fleet(board, NOW))
            assert found["requests"] == found["duration"]
            assert max(found.values()) - min(found.values()) <= 1
            assert found["requests"] >= last
            last = found["requests"]
            agreed += len(set(found.values())) == 1
        assert last > 0
        # The writer does nothing but write, and still most readings catch it at rest.
        assert agreed >= 1000
    finally:
        killer.cancel()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    board.master.release(0, NOW)
    assert board.thread_cells(0, 0)[T_SEQUENCE] % 2 == 0
    assert board.thread_cells(0, 0)[T_BUSY] >= 0
