"""How much memory each worker holds, asked of the kernel at a slow pace.

Runs in the master, and only where something depends on it. Shared pages count by their share
(PSS), so that a preloaded application is not counted once for each worker; where the kernel
refuses that figure, what is resident counts. Walking a process's page tables takes a
millisecond for each few hundred MiB and holds up its page faults, hence the pace.
Not here: what follows from the figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gthreadsrv_metrics.proc import proportional_bytes, resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PERIOD_S: Final = 5.0
"""Between two looks at the same worker."""


def held_by(pid: int) -> int | None:
    """Bytes of memory that are this process's; None once it is gone."""
    return proportional_bytes(pid) or resident_bytes(pid)


class WorkerMemory:
    """The last figure for each process."""

    __slots__ = ("_due", "_figures", "_read")

    def __init__(self, read: Callable[[int], int | None] = held_by) -> None:
        self._read = read
        self._figures: dict[int, int] = {}
        self._due: dict[int, float] = {}

    def look(self, pids: Iterable[int], now: float) -> dict[int, int]:
        """Ask about those whose turn has come; all others are forgotten. The new figures."""
        wanted = set(pids)
        self._figures = {pid: held for pid, held in self._figures.items() if pid in wanted}
        self._due = {pid: due for pid, due in self._due.items() if pid in wanted}
        new = {}
        for pid in sorted(wanted):
            if self._due.get(pid, now) > now:
                continue
            self._due[pid] = now + PERIOD_S
            held = self._read(pid)
            if held is not None:
                new[pid] = self._figures[pid] = held
        return new

    @property
    def largest(self) -> int:
        """Of all that are known, 0 of none."""
        return max(self._figures.values(), default=0)

    def next_deadline(self) -> float | None:
        """When somebody's turn comes."""
        return min(self._due.values(), default=None)
