"""The board as memory: its layout, its room, and that processes share it."""

from __future__ import annotations

import ctypes
import os
import re
import sys

import pytest

from gthreadsrv_metrics import layout
from gthreadsrv_metrics.reading import read_fleet
from gthreadsrv_metrics.scoreboard import Scoreboard


def test_parts_do_not_overlap() -> None:
    """Every part of the board, filled with its own number, keeps it."""
    board = Scoreboard(3, 2, ["a", "b"])
    parts = [board.master_cells, board.listener_cells, board.exporter_cells]
    parts += [board.directory(slot) for slot in range(3)]
    parts += [board.slot_cells(slot) for slot in range(3)]
    parts += [board.thread_cells(slot, index) for slot in range(3) for index in range(2)]
    for number, part in enumerate(parts, 1):
        for cell in range(len(part)):
            part[cell] = number
    for number, part in enumerate(parts, 1):
        assert set(part) == {float(number)}


def test_rows_are_whole_pages() -> None:
    """Slot and thread rows start on page boundaries, so an unused one costs no memory."""
    assert layout.SLOT_CELLS % layout.PAGE_CELLS == 0
    assert layout.THREAD_CELLS % layout.PAGE_CELLS == 0
    board = Scoreboard(3, 2, ["a"])
    assert board._slots_at % layout.PAGE_CELLS == 0
    assert board._threads_at % layout.PAGE_CELLS == 0


def test_groups_of_cells_fit_their_rows() -> None:
    """The last group of each row ends within it."""
    assert layout.THREAD_USED <= layout.THREAD_CELLS
    assert layout.S_SAMPLES + 2 * layout.SAMPLE_COUNT <= layout.SLOT_CELLS
    assert layout.S_KERNEL_TIMES < layout.S_SAMPLES
    assert layout.D_CPU + 2 <= layout.DIRECTORY_CELLS


def test_every_cell_is_aligned() -> None:
    """Cells lie on 8-byte boundaries, which makes their stores whole."""
    board = Scoreboard(1, 1, ["a"])
    assert len(board._memory) % layout.CELL_BYTES == 0
    assert board.thread_cells(0, 0).itemsize == layout.CELL_BYTES


@pytest.mark.parametrize(("slots", "threads"), [(0, 1), (1, 0), (-1, 4)])
def test_a_board_without_room_is_a_mistake(slots: int, threads: int) -> None:
    """Nothing can be counted on it."""
    with pytest.raises(ValueError, match="no cells"):
        Scoreboard(slots, threads, [])


def test_rows_outside_the_board_are_refused() -> None:
    """A wrong number is an error at once, not a store into someone else's row."""
    board = Scoreboard(2, 3, [])
    for slot in (-1, 2):
        with pytest.raises(ValueError, match="slot"):
            board.slot(slot)
        with pytest.raises(ValueError, match="slot"):
            board.thread(slot, 0)
    for index in (-1, 3):
        with pytest.raises(ValueError, match="thread"):
            board.thread(0, index)


def test_a_child_writes_what_the_parent_reads() -> None:
    """The memory is shared through fork, and survives its writer."""
    board = Scoreboard(1, 1, [])
    board.master.lease(0, 1, 1, 1000.0)
    pid = os.fork()
    if pid == 0:
        board.thread(0, 0).begin(1000.0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert read_fleet(board, 1007.0).slots[0].busy_s == pytest.approx(7)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_unused_room_is_not_touched() -> None:
    """Reading a board of a thousand rows with one in use leaves the rest without memory."""
    board = Scoreboard(64, 16, [])
    board.master.lease(0, 1, 1, 1000.0, threads=1)
    board.thread(0, 0).begin(1000.0)
    board.slot(0).heartbeat(1001.0)
    read_fleet(board, 1002.0, exemplars=True)
    board.master.release(0, 1003.0)
    assert resident_kib(board) <= 64


def resident_kib(board: Scoreboard) -> int:
    """Return how much memory the board's mapping really has."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(board._memory))
    inside = False
    with open("/proc/self/smaps", encoding="ascii") as file:
        for line in file:
            if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                inside = int(match[1], 16) <= address < int(match[2], 16)
            elif inside and line.startswith("Rss:"):
                return int(line.split()[1])
    raise AssertionError("the mapping was not found")
