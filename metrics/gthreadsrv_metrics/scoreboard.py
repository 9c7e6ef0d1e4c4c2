"""The scoreboard: shared memory in which every process keeps its own numbers.

Made by the master before any fork and inherited by all. Writers take their row from here
(a pool thread ``thread()``, a watchdog ``slot()``, the master ``master``); readers take raw
cells and leave their meaning to ``reading``. The byte layout and why it can be read without
a lock are in ``layout``. No prometheus_client here, and nothing that blocks.
"""

from __future__ import annotations

import mmap
import time
from typing import TYPE_CHECKING

from gthreadsrv_metrics.layout import (
    CELL_BYTES,
    DIRECTORY_CELLS,
    EXPORTER_CELLS,
    LISTENER_CELLS,
    MASTER_CELLS,
    PAGE_CELLS,
    SLOT_CELLS,
    THREAD_CELLS,
)
from gthreadsrv_metrics.master_row import MasterRow
from gthreadsrv_metrics.slot_row import SlotRow
from gthreadsrv_metrics.thread_row import ThreadRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gthreadsrv_metrics.layout import Cells

__all__ = ["MasterRow", "Scoreboard", "SlotRow", "ThreadRow"]


class Scoreboard:
    """One mapping with room for ``slots`` workers of up to ``threads`` threads each.

    Room is address space, not memory: be generous, so that a reload may raise threads and
    the fleet may grow.
    """

    def __init__(self, slots: int, threads: int, listeners: Sequence[str]) -> None:
        """Map the memory; to be called before any fork."""
        if slots < 1 or threads < 1:
            raise ValueError(f"a scoreboard of {slots} slots x {threads} threads has no cells")
        self.slots = slots
        self.threads = threads
        self.listeners = tuple(listeners)
        self._listeners_at = MASTER_CELLS
        self._exporter_at = self._listeners_at + LISTENER_CELLS * len(self.listeners)
        self._directory_at = self._exporter_at + EXPORTER_CELLS
        head = self._directory_at + DIRECTORY_CELLS * slots
        self._slots_at = -(-head // PAGE_CELLS) * PAGE_CELLS
        self._threads_at = self._slots_at + SLOT_CELLS * slots
        total = self._threads_at + THREAD_CELLS * slots * threads
        # MAP_SHARED | MAP_ANONYMOUS: no file, no name, gone with the last process.
        self._memory = mmap.mmap(-1, total * CELL_BYTES)
        self._cells = memoryview(self._memory).cast("d")
        self.master.set_start_time(time.time())

    @property
    def master_cells(self) -> Cells:
        """The master row."""
        return self._cells[:MASTER_CELLS]

    @property
    def listener_cells(self) -> Cells:
        """The listener table."""
        return self._cells[self._listeners_at : self._exporter_at]

    @property
    def exporter_cells(self) -> Cells:
        """The exporter row."""
        return self._cells[self._exporter_at : self._directory_at]

    @property
    def master(self) -> MasterRow:
        """The master's writer."""
        return MasterRow(self)

    def directory(self, slot: int) -> Cells:
        """Return the directory entry of a slot."""
        start = self._directory_at + DIRECTORY_CELLS * self._checked(slot)
        return self._cells[start : start + DIRECTORY_CELLS]

    def slot_cells(self, slot: int) -> Cells:
        """Return the row of a slot."""
        start = self._slots_at + SLOT_CELLS * self._checked(slot)
        return self._cells[start : start + SLOT_CELLS]

    def thread_cells(self, slot: int, index: int) -> Cells:
        """Return the row of one thread of a slot."""
        if not 0 <= index < self.threads:
            raise ValueError(f"thread {index} of a board made for {self.threads} threads")
        number = self._checked(slot) * self.threads + index
        start = self._threads_at + THREAD_CELLS * number
        return self._cells[start : start + THREAD_CELLS]

    def slot(self, slot: int) -> SlotRow:
        """Return a slot's writer."""
        first = self._threads_at + THREAD_CELLS * self._checked(slot) * self.threads
        rows = self._cells[first : first + THREAD_CELLS * self.threads]
        return SlotRow(self.slot_cells(slot), self.directory(slot), rows)

    def thread(self, slot: int, index: int) -> ThreadRow:
        """Return a thread's writer."""
        return ThreadRow(self.thread_cells(slot, index))

    def _checked(self, slot: int) -> int:
        if not 0 <= slot < self.slots:
            raise ValueError(f"slot {slot} of a board made for {self.slots} slots")
        return slot
