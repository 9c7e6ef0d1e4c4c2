"""Letting kept connections go where requests wait while another worker has room for them.

A kept connection stays with the worker that accepted it: a worker that autoscaling has added
would see none of the requests that it was added for. So a worker in which requests wait, while
another has threads free, ends as many connections as requests wait, each with its next response
(`Connection: close`, RFC 9112 9.6); the client's next connection is accepted by whoever has a
free thread. So does one in which requests compute in turns, while another has fewer under way: it
ends half as many connections as there are requests more. Runs in the worker, on the watchdog,
once a second, and only where `--workers` is a range. A request that keeps its connection has no
more to look at than before: it is the end of a connection that takes the order back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from gthreadsrv_metrics import labels
from gthreadsrv_metrics.layout import (
    D_STATE,
    D_THREADS,
    S_CPU,
    S_SATURATED,
    T_BUSY,
    T_QUEUE_KERNEL,
    T_QUEUE_USER,
)
from gthreadsrv_metrics.slot_row import integral

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from gthreadsrv_metrics.scoreboard import Scoreboard

    class Keeping(Protocol):
        """The part of a `Service` that decides on kept connections."""

        keeps_alive: bool
        lets_go: bool


__all__ = ["Balance"]

_READY: Final = float(labels.STATES.index("ready"))

WAITING: Final = 0.5
"""Requests that wait here, on the mean of the last second: from here on it is no accident."""

FREE: Final = 0.1
"""Share of the last second in which another worker, at most, had no free thread."""

FULL: Final = 0.8
CROWDED: Final = 1.5
"""Cores this process uses, and requests under way on the mean, from which on they compute in turns:
the same by which the autoscaler adds a worker for them."""


class Balance:
    """What this worker knows of its own load and of the others'."""

    def __init__(self, board: Scoreboard, slot: int, services: Sequence[Keeping]) -> None:
        self._board = board
        self._slot = slot
        self._services = services
        self._rows = [board.thread_cells(slot, index) for index in range(len(services))]
        self._seen_at = 0.0
        self._waited_s = self._waits()
        self._cpu_s = self._cpu()
        self._busy_s = 0.0
        self._saturated: dict[int, float] = {}

    def look(self, now: float) -> None:
        """Compare with a second ago, and let go of connections or not."""
        waited_s, before_s = self._waits(), self._waited_s
        saturated, before = self._others(now), self._saturated
        cpu_s, cpu_before_s = self._cpu(), self._cpu_s
        busy_s, busy_before_s = sum(integral(row[T_BUSY], now) for row in self._rows), self._busy_s
        seconds = now - self._seen_at
        self._cpu_s, self._busy_s = cpu_s, busy_s
        self._waited_s, self._saturated, self._seen_at = waited_s, saturated, now
        waiting = (waited_s - before_s) / seconds
        spare = waiting >= WAITING and any(
            slot in before and total - before[slot] <= FREE * seconds
            for slot, total in saturated.items()
        )
        go = math.ceil(waiting) if spare else 0
        busy = (busy_s - busy_before_s) / seconds
        if not go and cpu_s - cpu_before_s >= FULL * seconds and busy >= CROWDED and saturated:
            go = max(0, int(busy - min(map(self._busy, saturated))) // 2)
        for number, service in enumerate(self._services):
            if number < go:
                let_go(service)
            else:
                keep(service)

    def _waits(self) -> float:
        """What requests of this slot have waited for its threads, in all."""
        return sum(row[T_QUEUE_KERNEL] + row[T_QUEUE_USER] for row in self._rows)

    def _cpu(self) -> float:
        """What this worker has computed, in all; told just before each look."""
        cells = self._board.slot_cells(self._slot)
        return cells[S_CPU] + cells[S_CPU + 1]

    def _busy(self, slot: int) -> int:
        """How many threads of another worker have a request now."""
        board = self._board
        threads = int(board.directory(slot)[D_THREADS])
        return sum(board.thread_cells(slot, index)[T_BUSY] < 0.0 for index in range(threads))

    def _others(self, now: float) -> dict[int, float]:
        """How long each other ready worker has been without a free thread, in all."""
        board = self._board
        return {
            slot: integral(board.slot_cells(slot)[S_SATURATED], now)
            for slot in range(board.slots)
            if slot != self._slot and board.directory(slot)[D_STATE] == _READY
        }


def let_go(service: Keeping) -> None:
    """Have the service's next response end its connection, if that would have been kept."""
    if service.keeps_alive:
        service.lets_go = True
        service.keeps_alive = False


def keep(service: Keeping) -> None:
    """Take `let_go` back."""
    if service.lets_go:
        service.lets_go = False
        service.keeps_alive = True
