"""A worker's row: heartbeats, saturation and what a process knows about itself."""

from __future__ import annotations

import pytest

from gthreadsrv_metrics.layout import SAMPLE_COUNT
from gthreadsrv_metrics.reading import SlotReading, read_fleet, utilization
from gthreadsrv_metrics.scoreboard import Scoreboard

NOW = 1000.0


@pytest.fixture
def board() -> Scoreboard:
    """A board with one ready worker of two threads, leased at NOW."""
    board = Scoreboard(2, 2, [])
    board.master.lease(0, 100, 1, NOW)
    board.master.set_state(0, "ready")
    return board


def read(board: Scoreboard, now: float) -> SlotReading:
    """Read the first slot."""
    return read_fleet(board, now).slots[0]


def test_heartbeat_age_grows_until_the_next(board: Scoreboard) -> None:
    """Before the first heartbeat the age counts from the lease."""
    assert read(board, NOW + 3).heartbeat_age_s == pytest.approx(3)
    board.slot(0).heartbeat(NOW + 4)
    assert read(board, NOW + 6).heartbeat_age_s == pytest.approx(2)


def test_connections_by_state(board: Scoreboard) -> None:
    """The four states are read back in their order."""
    board.slot(0).connections(1, 2, 3, 4)
    assert read(board, NOW).connections == (1, 2, 3, 4)


def test_saturated_time_is_an_integral(board: Scoreboard) -> None:
    """It grows while every thread is busy, running stretch included, and then stands still."""
    row = board.slot(0)
    row.begin_saturated(NOW)
    assert read(board, NOW + 2).saturated_s == pytest.approx(2)
    row.end_saturated(NOW + 3)
    assert read(board, NOW + 9).saturated_s == pytest.approx(3)


def test_saturation_told_twice_counts_once(board: Scoreboard) -> None:
    """A second begin or end changes nothing: the first one is when it happened."""
    row = board.slot(0)
    row.end_saturated(NOW)
    row.begin_saturated(NOW)
    row.begin_saturated(NOW + 1)
    row.end_saturated(NOW + 2)
    row.end_saturated(NOW + 5)
    assert read(board, NOW + 9).saturated_s == pytest.approx(2)


def test_waits_and_collections_add_up(board: Scoreboard) -> None:
    """Interpreter waits and garbage collections are counters."""
    row = board.slot(0)
    row.interpreter_wait(0.5)
    row.interpreter_wait(0.25)
    row.gc_pause(0.1, 0)
    row.gc_pause(0.2, 2)
    row.gc_pause(0.3, 2)
    slot = read(board, NOW)
    assert slot.interpreter_wait_s == pytest.approx(0.75)
    assert slot.gc_pause_s == pytest.approx(0.6)
    assert slot.gc_collections == (1, 0, 2)


def test_kernel_times_are_absent_until_the_kernel_gave_them(board: Scoreboard) -> None:
    """Zero is a measurement; without one there is none."""
    assert read(board, NOW).runqueue_wait_s is None
    assert read(board, NOW).request_cpu_s is None
    row = board.slot(0)
    row.kernel_times(0.5, 0.0)
    row.kernel_times(0.25, 0.125)
    slot = read(board, NOW)
    assert (slot.request_cpu_s, slot.runqueue_wait_s) == (0.75, 0.125)


def test_cpu_goes_on_from_the_predecessors(board: Scoreboard) -> None:
    """A new process's CPU is added to what the slot's reaped processes used."""
    board.slot(0).process_cpu(3.0, 1.0)
    board.master.release(0, NOW + 1)
    board.master.lease(0, 101, 1, NOW + 2)
    successor = board.slot(0)
    successor.process_cpu(0.5, 0.25)
    assert read(board, NOW + 3).cpu_s == (3.5, 1.25)


def test_utilization_is_the_busy_share_of_the_window(board: Scoreboard) -> None:
    """One of two threads busy all along is one half, from samples older than 15 s."""
    row = board.slot(0)
    board.thread(0, 0).begin(NOW)
    for second in range(60):
        row.heartbeat(NOW + second)
    slot = read(board, NOW + 60)
    assert slot.window_s == pytest.approx(15)
    assert utilization([slot]) == pytest.approx(0.5)


def test_utilization_follows_within_its_window(board: Scoreboard) -> None:
    """A thread that has been idle for the whole window no longer counts."""
    row, thread = board.slot(0), board.thread(0, 0)
    thread.begin(NOW)
    seen = {}
    for second in range(100):
        if second == 60:
            thread.abandon(NOW + 60)
        row.heartbeat(NOW + second)
        seen[second] = utilization([read(board, NOW + second)])
    assert seen[59] == pytest.approx(0.5)
    assert seen[68] == pytest.approx(0.5 * 7 / 15)
    assert seen[99] == 0


def test_frequent_heartbeats_keep_the_whole_window(board: Scoreboard) -> None:
    """Samples are a second apart however often the watchdog beats."""
    row = board.slot(0)
    for tick in range(3000):
        row.heartbeat(NOW + tick / 100)
    assert 15 <= read(board, NOW + 30).window_s <= 16.1


def test_utilization_of_a_young_worker_is_over_its_life(board: Scoreboard) -> None:
    """Without a sample that old the window begins with the first one, or the lease."""
    board.thread(0, 0).begin(NOW)
    assert read(board, NOW + 2).window_s == pytest.approx(2)
    board.slot(0).heartbeat(NOW + 3)
    slot = read(board, NOW + 5)
    assert slot.window_s == pytest.approx(2)
    assert utilization([slot]) == pytest.approx(0.5)


def test_a_wedged_worker_counts_as_it_is(board: Scoreboard) -> None:
    """When heartbeats stop the window grows back to the last one, busy threads included."""
    row = board.slot(0)
    for second in range(30):
        row.heartbeat(NOW + second)
    board.thread(0, 0).begin(NOW + 29)
    board.thread(0, 1).begin(NOW + 29)
    assert utilization([read(board, NOW + 129)]) == pytest.approx(1.0, abs=0.02)


def test_utilization_weighs_workers_by_their_threads() -> None:
    """Three threads busy of four in two workers is three quarters; only ready ones count."""
    board = Scoreboard(3, 3, [])
    for slot, threads in ((0, 1), (1, 3), (2, 3)):
        board.master.lease(slot, 100 + slot, 1, NOW, threads=threads)
        board.master.set_state(slot, "draining" if slot == 2 else "ready")
    for slot, index in ((0, 0), (1, 0), (1, 1), (2, 0)):
        board.thread(slot, index).begin(NOW)
    assert utilization(read_fleet(board, NOW + 10).slots) == pytest.approx(0.75)


def test_no_ready_worker_has_no_utilization() -> None:
    """An empty fleet is neither idle nor busy."""
    assert utilization([]) is None


def test_the_ring_holds_its_newest_samples(board: Scoreboard) -> None:
    """After many turns of the ring the window still begins 15 s ago."""
    row = board.slot(0)
    for second in range(SAMPLE_COUNT * 5 + 7):
        row.heartbeat(NOW + second)
    end = NOW + SAMPLE_COUNT * 5 + 7
    assert read(board, end).window_s == pytest.approx(15)
