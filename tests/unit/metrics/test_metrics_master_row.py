"""The master's part: leases, folding what the dead left open, and why workers come and go."""

from __future__ import annotations

import time

import pytest

from gthreadsrv_metrics import labels
from gthreadsrv_metrics.layout import (
    CONFIG_FIELDS,
    L_BACKLOG_LIMIT,
    M_BOOT,
    M_CONFIG,
    M_EXITS,
    M_HEARTBEAT,
    M_RELOAD_SUCCESS,
    M_RELOADS,
    M_SCALES,
    M_SHUTTING_DOWN,
    M_SPAWNS,
    M_TARGET_WORKERS,
    T_SEQUENCE,
)
from gthreadsrv_metrics.reading import SlotReading, read_fleet
from gthreadsrv_metrics.scoreboard import Scoreboard
from tests.unit.metrics.fakes import Usage

NOW = 1000.0


@pytest.fixture
def board() -> Scoreboard:
    """A board with room for three workers of four threads."""
    return Scoreboard(3, 4, ["127.0.0.1:8000", "unix:/run/app.sock"])


def read(board: Scoreboard, now: float = NOW, slot: int = 0) -> SlotReading:
    """Read one slot."""
    return next(s for s in read_fleet(board, now).slots if s.slot == slot)


def test_slots_never_leased_are_not_there(board: Scoreboard) -> None:
    """Capacity is no worker."""
    board.master.lease(1, 100, 1, NOW)
    assert [slot.slot for slot in read_fleet(board, NOW).slots] == [1]


def test_a_lease_says_who_has_the_slot(board: Scoreboard) -> None:
    """State, pid, generation, threads and start are those of the process."""
    before = time.time()
    board.master.lease(0, 4711, 3, NOW, threads=2)
    slot = read(board)
    assert (slot.state, slot.pid, slot.generation, slot.threads) == ("booting", 4711, 3, 2)
    assert before <= slot.start_time <= time.time()


def test_states_follow_each_other(board: Scoreboard) -> None:
    """The master's word is the state."""
    board.master.lease(0, 1, 1, NOW)
    for state in ("ready", "draining"):
        board.master.set_state(0, state)
        assert read(board).state == state
    board.master.release(0, NOW)
    assert read(board).state == "free"


@pytest.mark.parametrize("threads", [0, -1, 5])
def test_more_threads_than_room_are_refused(board: Scoreboard, threads: int) -> None:
    """A lease that does not fit the board is the master's mistake."""
    with pytest.raises(ValueError, match="do not fit"):
        board.master.lease(0, 1, 1, NOW, threads=threads)


def test_release_keeps_counters_and_clears_gauges(board: Scoreboard) -> None:
    """A free slot has its totals and nothing that looks alive."""
    board.master.lease(0, 1, 1, NOW)
    board.slot(0).connections(1, 1, 1, 1)
    board.slot(0).heartbeat(NOW)
    board.slot(0).interpreter_wait(0.5)
    board.thread(0, 0).count_accept()
    board.thread(0, 0).begin(NOW)
    board.master.release(0, NOW + 2)
    slot = read(board, NOW + 50)
    assert (slot.live, slot.pid, slot.threads, slot.threads_busy) == (False, 0, 0, 0)
    assert (slot.connections, slot.oldest_request_s) == ((0, 0, 0, 0), 0)
    assert (slot.accepted, slot.interpreter_wait_s) == (1, 0.5)
    assert slot.busy_s == pytest.approx(2)


def test_release_closes_running_time(board: Scoreboard) -> None:
    """What a killed process was busy with counts up to its end and not a moment longer."""
    board.master.lease(0, 1, 1, NOW)
    for index in range(3):
        board.thread(0, index).begin(NOW + index)
    board.slot(0).begin_saturated(NOW + 2)
    board.master.release(0, NOW + 5)
    for later in (NOW + 5, NOW + 500):
        slot = read(board, later)
        assert slot.busy_s == pytest.approx(5 + 4 + 3)
        assert slot.saturated_s == pytest.approx(3)


def test_a_successor_goes_on_where_the_slot_stopped(board: Scoreboard) -> None:
    """Totals are the slot's, whoever has it."""
    for lease in range(3):
        start = NOW + 10 * lease
        board.master.lease(0, 100 + lease, lease, start)
        thread = board.thread(0, 0)
        thread.begin(start)
        if lease % 2:
            thread.abandon(start + 1)
        board.master.release(0, start + 1)
    assert read(board, NOW + 99).busy_s == pytest.approx(3)


def test_fewer_threads_keep_the_rows_of_more(board: Scoreboard) -> None:
    """What the fourth thread counted is still counted when the successor has two."""
    board.master.lease(0, 1, 1, NOW, threads=4)
    board.thread(0, 3).count_accept()
    board.master.release(0, NOW)
    board.master.lease(0, 2, 2, NOW, threads=2)
    assert (read(board).accepted, read(board).threads) == (1, 2)


def test_release_repairs_a_row_killed_while_written(board: Scoreboard) -> None:
    """The odd sequence of a dead writer is made even, once."""
    board.master.lease(0, 1, 1, NOW)
    cells = board.thread_cells(0, 0)
    cells[T_SEQUENCE] = 7.0
    board.master.release(0, NOW)
    assert cells[T_SEQUENCE] == 8.0
    board.master.lease(0, 2, 1, NOW)
    board.master.release(0, NOW)
    assert cells[T_SEQUENCE] == 8.0


def test_reaped_cpu_is_what_the_kernel_says(board: Scoreboard) -> None:
    """The final resource usage counts, even when heartbeats had said less."""
    board.master.lease(0, 1, 1, NOW)
    board.slot(0).process_cpu(1.0, 0.5)
    board.master.release(0, NOW, Usage(1.5, 0.75))
    assert read(board).cpu_s == (1.5, 0.75)
    board.master.lease(0, 2, 1, NOW)
    board.master.release(0, NOW, Usage(2.0, 1.0))
    assert read(board).cpu_s == (3.5, 1.75)


def test_without_usage_the_last_heartbeat_counts(board: Scoreboard) -> None:
    """What was exported already is never taken back."""
    board.master.lease(0, 1, 1, NOW)
    board.slot(0).process_cpu(1.0, 0.5)
    board.master.release(0, NOW)
    assert read(board).cpu_s == (1.0, 0.5)


@pytest.mark.parametrize(
    ("call", "values", "start"),
    [
        ("spawned", labels.SPAWN_REASONS, M_SPAWNS),
        ("exited", labels.EXIT_REASONS, M_EXITS),
        ("scaled", labels.SCALE_DIRECTIONS, M_SCALES),
    ],
)
def test_each_reason_has_its_own_cell(
    board: Scoreboard, call: str, values: tuple[str, ...], start: int
) -> None:
    """The n-th reason counted n times is n in its cell, and no other cell changes."""
    before = list(board.master_cells)
    for count, value in enumerate(values, 1):
        for _ in range(count):
            getattr(board.master, call)(value)
    changed = {i: v for i, v in enumerate(board.master_cells) if v != before[i]}
    assert changed == {start + i: i + 1.0 for i in range(len(values))}


def test_boots_are_a_histogram(board: Scoreboard) -> None:
    """The sum and one bucket grow."""
    board.master.booted(0.3)
    board.master.booted(600.0)
    cells = board.master_cells
    assert cells[M_BOOT] == pytest.approx(600.3)
    assert cells[M_BOOT + 1 + labels.BOOT_BOUNDS.index(0.5)] == 1
    assert cells[M_BOOT + 1 + len(labels.BOOT_BOUNDS)] == 1


def test_reloads_by_result(board: Scoreboard) -> None:
    """Only a good reload moves the time of the last success."""
    board.master.reloaded(True, 1111.0)
    board.master.reloaded(False, 2222.0)
    assert list(board.master_cells[M_RELOADS : M_RELOADS + 2]) == [1, 1]
    assert board.master_cells[M_RELOAD_SUCCESS] == 1111


def test_plain_values(board: Scoreboard) -> None:
    """Settings, target, heartbeat, limits and shutting down are what was last said."""
    master = board.master
    master.set_config({name: i + 1.0 for i, name in enumerate(CONFIG_FIELDS)})
    master.set_target_workers(5)
    master.heartbeat(NOW)
    master.set_backlog_limit("unix:/run/app.sock", 128)
    master.set_shutting_down()
    cells = board.master_cells
    assert list(cells[M_CONFIG : M_CONFIG + len(CONFIG_FIELDS)]) == [1, 2, 3, 4, 5, 6, 7]
    assert (cells[M_TARGET_WORKERS], cells[M_HEARTBEAT], cells[M_SHUTTING_DOWN]) == (5, NOW, 1)
    assert list(board.listener_cells) == [0, 128]
    assert L_BACKLOG_LIMIT == 0
