"""A worker's row of the scoreboard: what a process tells about itself as a whole.

Runs in the worker. Each method says which thread calls it; a cell has one writer. Nothing
here is on the request path but begin_saturated() and end_saturated(), and those only when
the last free thread is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gthreadsrv_metrics.layout import (
    D_CPU,
    D_THREADS_EVER,
    S_CONNECTIONS,
    S_CPU,
    S_GC_COLLECTIONS,
    S_GC_PAUSE,
    S_HEARTBEAT,
    S_INTERPRETER_WAIT,
    S_KERNEL_TIMES,
    S_REQUEST_CPU,
    S_RUNQUEUE_WAIT,
    S_SAMPLES,
    S_SATURATED,
    SAMPLE_COUNT,
    SAMPLE_PERIOD_S,
    T_BUSY,
    T_NATIVE_ID,
    THREAD_CELLS,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gthreadsrv_metrics.layout import Cells

__all__ = ["SlotRow", "integral"]


def integral(cell: float, now: float) -> float:
    """Return a time integral's seconds at ``now`` (see layout)."""
    return cell + now if cell < 0.0 else cell


class SlotRow:
    """The writer of one slot row. Counters go on from what an earlier lease left there."""

    __slots__ = ("_cells", "_cpu_base", "_directory", "_next_sample", "_sample", "_threads")

    def __init__(self, cells: Cells, directory: Cells, threads: Cells) -> None:
        """Take over a row; ``threads`` are the cells of the slot's thread rows."""
        self._cells = cells
        self._directory = directory
        self._threads = threads
        self._sample = 0
        self._next_sample = 0.0
        # The master adds a process's CPU to the directory only once it is reaped.
        self._cpu_base = (float(directory[D_CPU]), float(directory[D_CPU + 1]))

    def heartbeat(self, now: float) -> None:
        """Watchdog: the interpreter runs. Also keeps the busy integral's last 24 seconds."""
        cells = self._cells
        cells[S_HEARTBEAT] = now
        if now < self._next_sample:
            return
        self._next_sample = now + SAMPLE_PERIOD_S
        busy = sum(integral(cell, now) for cell in self._column(T_BUSY))
        at = S_SAMPLES + 2 * self._sample
        self._sample = (self._sample + 1) % SAMPLE_COUNT
        cells[at] = 0.0  # no sample while its two cells disagree
        cells[at + 1] = busy
        cells[at] = now

    def connections(self, reading: int, active: int, writing: int, idle: int) -> None:
        """Watchdog: how many connections are in each state."""
        cells = self._cells
        cells[S_CONNECTIONS] = reading
        cells[S_CONNECTIONS + 1] = active
        cells[S_CONNECTIONS + 2] = writing
        cells[S_CONNECTIONS + 3] = idle

    def interpreter_wait(self, seconds: float) -> None:
        """Watchdog: it woke this much later than it had asked for."""
        self._cells[S_INTERPRETER_WAIT] += seconds

    def gc_pause(self, seconds: float, generation: int) -> None:
        """Collecting thread, from gc.callbacks (collections never overlap)."""
        self._cells[S_GC_COLLECTIONS + generation] += 1.0
        self._cells[S_GC_PAUSE] += seconds

    def process_cpu(self, user_s: float, system_s: float) -> None:
        """Watchdog: CPU this process has used, children it waited for included."""
        self._cells[S_CPU] = self._cpu_base[0] + user_s
        self._cells[S_CPU + 1] = self._cpu_base[1] + system_s

    def kernel_times(self, request_cpu_s: float, runqueue_wait_s: float) -> None:
        """Watchdog: add what the kernel says its threads used and waited since last time."""
        cells = self._cells
        cells[S_REQUEST_CPU] += request_cpu_s
        cells[S_RUNQUEUE_WAIT] += runqueue_wait_s
        cells[S_KERNEL_TIMES] = 1.0

    def begin_saturated(self, now: float) -> None:
        """Thread that took the last free place: every thread is busy from ``now``."""
        cell = self._cells[S_SATURATED]
        if cell >= 0.0:
            self._cells[S_SATURATED] = cell - now

    def end_saturated(self, now: float) -> None:
        """First thread to be free again."""
        cell = self._cells[S_SATURATED]
        if cell < 0.0:
            self._cells[S_SATURATED] = cell + now

    def native_ids(self) -> Sequence[int]:
        """Return the kernel ids of the pool threads that have attached."""
        return [int(tid) for tid in self._column(T_NATIVE_ID) if tid]

    def _column(self, cell: int) -> list[float]:
        """Return one cell of each thread row in use; a look at the others would cost pages."""
        used = int(self._directory[D_THREADS_EVER]) * THREAD_CELLS
        return list(self._threads[cell:used:THREAD_CELLS])
