"""The master's part of the scoreboard: leases of slots, and what happened to workers.

Runs in the master, which has one thread, and is the only writer of the master row, the
listener table and the directory. When a process has been reaped the master also closes
the rows that process left behind: their writer is dead, so there is still one writer.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from gthreadsrv_metrics import labels
from gthreadsrv_metrics.layout import (
    CONFIG_FIELDS,
    D_BUSY_AT_LEASE,
    D_CPU,
    D_GENERATION,
    D_LEASED_AT,
    D_PID,
    D_START_TIME,
    D_STATE,
    D_THREADS,
    D_THREADS_EVER,
    L_BACKLOG_LIMIT,
    LISTENER_CELLS,
    M_BOOT,
    M_CONFIG,
    M_EXITS,
    M_HEARTBEAT,
    M_RELOAD_SUCCESS,
    M_RELOADS,
    M_SCALE_REFUSALS,
    M_SCALES,
    M_SHARED_QUEUES,
    M_SHUTTING_DOWN,
    M_SPAWNS,
    M_START_TIME,
    M_TARGET_WORKERS,
    S_CONNECTIONS,
    S_CPU,
    S_HEARTBEAT,
    S_SAMPLES,
    S_SATURATED,
    SAMPLE_COUNT,
    T_BUSY,
    T_NATIVE_ID,
    T_SEQUENCE,
)
from gthreadsrv_metrics.slot_row import integral

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class Usage(Protocol):
        """The part of ``os.wait4``'s resource usage that is kept."""

        @property
        def ru_utime(self) -> float: ...
        @property
        def ru_stime(self) -> float: ...

    from gthreadsrv_metrics.scoreboard import Scoreboard

__all__ = ["MasterRow"]

_STATE: Final = {state: index for index, state in enumerate(labels.STATES)}
_SPAWNS: Final = {reason: M_SPAWNS + i for i, reason in enumerate(labels.SPAWN_REASONS)}
_EXITS: Final = {reason: M_EXITS + i for i, reason in enumerate(labels.EXIT_REASONS)}
_REFUSALS: Final = {why: M_SCALE_REFUSALS + i for i, why in enumerate(labels.SCALE_REFUSALS)}
_SCALES: Final = {way: M_SCALES + i for i, way in enumerate(labels.SCALE_DIRECTIONS)}


class MasterRow:
    """The writer of all that the master knows."""

    __slots__ = ("_board", "_cells")

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        self._cells = board.master_cells

    def lease(
        self, slot: int, pid: int, generation: int, now: float, *, threads: int | None = None
    ) -> None:
        """A process of ``threads`` threads (None: all there is room for) has the slot.

        May be called before or just after the fork: it writes no cell a worker writes.
        """
        board = self._board
        entry = board.directory(slot)
        count = board.threads if threads is None else threads
        if not 0 < count <= board.threads:
            raise ValueError(f"{count} threads do not fit a board made for {board.threads}")
        entry[D_PID] = pid
        entry[D_GENERATION] = generation
        entry[D_START_TIME] = time.time()
        entry[D_LEASED_AT] = now
        entry[D_THREADS] = count
        entry[D_BUSY_AT_LEASE] = sum(
            integral(board.thread_cells(slot, index)[T_BUSY], now)
            for index in range(int(entry[D_THREADS_EVER]))
        )
        entry[D_THREADS_EVER] = max(count, entry[D_THREADS_EVER])
        entry[D_STATE] = _STATE["booting"]

    def set_state(self, slot: int, state: str) -> None:
        """Move a leased slot to ``booting``, ``ready`` or ``draining``."""
        self._board.directory(slot)[D_STATE] = _STATE[state]

    def release(self, slot: int, now: float, usage: Usage | None = None) -> None:
        """The slot's process is dead and reaped: close what it left open, keep its counters.

        ``usage`` is what ``os.wait4`` returned; without it the CPU time after the last
        heartbeat is lost.
        """
        board = self._board
        entry = board.directory(slot)
        cells = board.slot_cells(slot)
        # Free first: from here on no reader derives a gauge from the rest.
        entry[D_STATE] = _STATE["free"]
        for index in range(int(entry[D_THREADS_EVER])):
            row = board.thread_cells(slot, index)
            row[T_BUSY] = integral(row[T_BUSY], now)
            row[T_NATIVE_ID] = 0.0
            if row[T_SEQUENCE] % 2.0:  # killed inside finish(): let readers pass
                row[T_SEQUENCE] += 1.0
        cells[S_SATURATED] = integral(cells[S_SATURATED], now)
        for offset, used in enumerate((usage.ru_utime, usage.ru_stime) if usage else (0.0, 0.0)):
            # Both cells are totals of the slot, so neither order nor repetition can make
            # the exported maximum go back.
            entry[D_CPU + offset] = max(entry[D_CPU + offset] + used, cells[S_CPU + offset])
        for offset in range(len(labels.CONNECTION_STATES)):
            cells[S_CONNECTIONS + offset] = 0.0
        for sample in range(SAMPLE_COUNT):
            cells[S_SAMPLES + 2 * sample] = 0.0
        cells[S_HEARTBEAT] = 0.0
        entry[D_PID] = 0.0

    def spawned(self, reason: str) -> None:
        """A worker was forked, for one of SPAWN_REASONS."""
        self._cells[_SPAWNS[reason]] += 1.0

    def exited(self, reason: str) -> None:
        """A worker was reaped, for one of EXIT_REASONS."""
        self._cells[_EXITS[reason]] += 1.0

    def booted(self, seconds: float) -> None:
        """A worker became ready this long after its fork."""
        self._cells[M_BOOT + 1 + bisect_left(labels.BOOT_BOUNDS, seconds)] += 1.0
        self._cells[M_BOOT] += seconds

    def reloaded(self, ok: bool, now: float) -> None:
        """A reload ended; ``now`` is in unix seconds."""
        self._cells[M_RELOADS + (0 if ok else 1)] += 1.0
        if ok:
            self._cells[M_RELOAD_SUCCESS] = now

    def scaled(self, direction: str) -> None:
        """The wanted number of workers was moved ``up`` or ``down``."""
        self._cells[_SCALES[direction]] += 1.0

    def scale_refused(self, reason: str) -> None:
        """More workers were wanted and could not be had, for one of SCALE_REFUSALS."""
        self._cells[_REFUSALS[reason]] += 1.0

    def set_target_workers(self, count: int) -> None:
        """How many workers are wanted."""
        self._cells[M_TARGET_WORKERS] = count

    def set_config(self, values: Mapping[str, float]) -> None:
        """Publish the settings in CONFIG_FIELDS; again after each reload that changed them."""
        for offset, name in enumerate(CONFIG_FIELDS):
            self._cells[M_CONFIG + offset] = values[name]

    def set_backlog_limit(self, listener: str, limit: int) -> None:
        """The accept queue's limit as asked for, where the kernel will not tell it."""
        index = self._board.listeners.index(listener)
        self._board.listener_cells[index * LISTENER_CELLS + L_BACKLOG_LIMIT] = limit

    def set_shutting_down(self) -> None:
        """No new work is wanted from now on: readiness ends here, before anything stops."""
        self._cells[M_SHUTTING_DOWN] = 1.0

    def set_shared_queues(self, shared: bool) -> None:
        """Whether another master accepts from the same listeners: what queues is its too."""
        self._cells[M_SHARED_QUEUES] = float(shared)

    def heartbeat(self, now: float) -> None:
        """The master's loop turns."""
        self._cells[M_HEARTBEAT] = now

    def set_start_time(self, wall: float) -> None:
        """When the master started, in unix seconds."""
        self._cells[M_START_TIME] = wall
