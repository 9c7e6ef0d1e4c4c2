"""What is read of /proc, from made-up files and from this very process."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from gthreadsrv_metrics.proc import OwnTimes, ProcessReader, ProcessReading
from gthreadsrv_metrics.reading import read_fleet
from gthreadsrv_metrics.scoreboard import Scoreboard
from tests.unit.metrics.fakes import process

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
PAGE = os.sysconf("SC_PAGE_SIZE")
NOW = 1000.0


def test_a_process_from_outside(tmp_path: Path) -> None:
    """CPU with that of waited-for children, memory both ways, and open files of their limit."""
    process(tmp_path, 7)
    found = ProcessReader(str(tmp_path)).read([7])[7]
    assert (found.user_s, found.system_s) == (3.0, 1.0)
    assert found.resident_bytes == 50 * PAGE
    assert found.proportional_bytes == 300 * 1024
    assert found.max_fds == 1024
    assert found.open_fds


def test_open_files_are_counted_where_the_directory_has_no_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 6.2 the names are counted."""
    process(tmp_path, 7)
    monkeypatch.setattr(os, "stat", lambda _path: os.stat_result([0] * 10))
    assert ProcessReader(str(tmp_path)).read([7])[7].open_fds == 3


def test_a_process_that_is_gone_tells_nothing(tmp_path: Path) -> None:
    """Between the board and /proc a worker may die: no number, no error."""
    assert ProcessReader(str(tmp_path)).read([8]) == {8: ProcessReading()}


@pytest.mark.parametrize("name", ["stat", "statm", "smaps_rollup", "limits"])
def test_an_empty_file_tells_nothing(tmp_path: Path, name: str) -> None:
    """A file cut short costs its own number alone."""
    process(tmp_path, 7)
    (tmp_path / "7" / name).write_text("")
    found = ProcessReader(str(tmp_path)).read([7])[7]
    values = [getattr(found, field) for field in ProcessReading._fields]
    assert values.count(None) == (2 if name == "stat" else 1)


def test_unlimited_files_have_no_limit(tmp_path: Path) -> None:
    """No number is made up for "unlimited"."""
    process(tmp_path, 7)
    (tmp_path / "7" / "limits").write_text("Max open files  unlimited  unlimited  files\n")
    assert ProcessReader(str(tmp_path)).read([7])[7].max_fds is None


def test_memory_is_measured_every_ten_seconds(tmp_path: Path) -> None:
    """Page tables are walked once per period, whatever the scrape interval."""
    process(tmp_path, 7)
    now = [NOW]
    reader = ProcessReader(str(tmp_path), lambda: now[0])
    reader.read([7])
    (tmp_path / "7" / "smaps_rollup").write_text("Pss: 400 kB\n")
    now[0] += 9
    assert reader.read([7])[7].proportional_bytes == 300 * 1024
    now[0] += 2
    assert reader.read([7])[7].proportional_bytes == 400 * 1024


def test_one_scrape_measures_within_its_budget(tmp_path: Path) -> None:
    """With slow processes a scrape measures some and leaves the others to the next ones."""
    for pid in range(1, 9):
        process(tmp_path, pid)
    now = [NOW]

    def clock() -> float:
        now[0] += 0.003  # each look at the clock is a slow measurement
        return now[0]

    reader = ProcessReader(str(tmp_path), clock)

    def measured() -> int:
        return sum(r.proportional_bytes is not None for r in reader.read(range(1, 9)).values())

    first = measured()
    assert 0 < first < 8
    assert measured() > first
    assert measured() == 8


def test_processes_that_left_are_forgotten(tmp_path: Path) -> None:
    """The reader remembers the live ones only."""
    process(tmp_path, 7)
    process(tmp_path, 9)
    reader = ProcessReader(str(tmp_path))
    reader.read([7, 9])
    reader.read([9])
    assert set(reader._kept) == {9}


@linux
def test_this_process_for_real() -> None:
    """The kernel's own files are understood."""
    found = ProcessReader().read([os.getpid()])[os.getpid()]
    assert found.resident_bytes
    assert found.open_fds == len(os.listdir("/proc/self/fd")) - 1  # not listdir's own
    assert found.user_s is not None
    assert abs(found.user_s - os.times().user - os.times().children_user) < 0.5


def board() -> Scoreboard:
    """A board with one worker of two threads, 11 and 12."""
    board = Scoreboard(1, 2, [])
    board.master.lease(0, 1, 1, NOW)
    for index, tid in enumerate((11, 12)):
        board.thread(0, index).attach(tid)
    return board


def tasks(root: Path, **times: tuple[int, int]) -> None:
    """Make up threads: t11=(on the CPU, waiting), in seconds."""
    for folder in root.iterdir():
        (folder / "schedstat").unlink()
        folder.rmdir()
    for name, (cpu, wait) in times.items():
        (root / name[1:]).mkdir()
        (root / name[1:] / "schedstat").write_text(f"{cpu}000000000 {wait}000000000 5\n")


def times(board: Scoreboard) -> tuple[float | None, float | None]:
    """Return (request CPU, run-queue wait)."""
    slot = read_fleet(board, NOW).slots[0]
    return slot.request_cpu_s, slot.runqueue_wait_s


def test_own_times_add_up_what_each_thread_gained(tmp_path: Path) -> None:
    """CPU is the pool's, waiting everyone's; threads that end take nothing with them."""
    shared = board()
    own = OwnTimes(shared.slot(0), str(tmp_path))
    tasks(tmp_path, t10=(9, 1), t11=(2, 1), t12=(3, 0))
    own.record()
    assert times(shared) == (5, 2)
    tasks(tmp_path, t10=(9, 2), t11=(4, 1))  # thread 12 has ended
    own.record()
    assert times(shared) == (7, 3)
    tasks(tmp_path, t10=(9, 2), t11=(4, 1), t12=(1, 1))  # its id is used again
    own.record()
    assert times(shared) == (8, 4)
    tasks(tmp_path, t10=(9, 2), t11=(2, 3), t12=(1, 1))  # and 11's, between two looks
    own.record()
    assert times(shared) == (10, 7)


def test_own_times_go_on_over_leases(tmp_path: Path) -> None:
    """A successor's threads start at nothing and add to the slot's total."""
    shared = board()
    tasks(tmp_path, t11=(2, 1))
    OwnTimes(shared.slot(0), str(tmp_path)).record()
    shared.master.release(0, NOW)
    shared.master.lease(0, 2, 2, NOW)
    shared.thread(0, 0).attach(11)
    OwnTimes(shared.slot(0), str(tmp_path)).record()
    assert times(shared) == (4, 2)


def test_a_kernel_without_schedstat_leaves_them_absent(tmp_path: Path) -> None:
    """No file, no number; the process's CPU is still known."""
    shared = board()
    OwnTimes(shared.slot(0), str(tmp_path / "none")).record()
    OwnTimes(shared.slot(0), str(tmp_path)).record()
    assert times(shared) == (None, None)
    assert read_fleet(shared, NOW).slots[0].cpu_s[0] > 0


@linux
def test_own_times_for_real() -> None:
    """A thread that burns CPU shows in its worker's request CPU."""
    shared = Scoreboard(1, 1, [])
    shared.master.lease(0, os.getpid(), 1, NOW)
    thread = shared.thread(0, 0)
    own = OwnTimes(shared.slot(0))
    done = threading.Event()

    def burn() -> None:
        thread.attach(threading.get_native_id())
        for _ in range(400_000):
            pass
        own.record()
        done.set()

    threading.Thread(target=burn).start()
    assert done.wait(10)
    request_cpu_s, wait_s = times(shared)
    if request_cpu_s is None:
        pytest.skip("this kernel keeps no schedstat")
    assert 0.001 < request_cpu_s < 5
    assert wait_s is not None
