"""Letting kept connections go where requests wait while another worker has threads to spare.

A kept connection stays with the worker that accepted it: a worker that autoscaling has added
would see none of the requests that it was added for. So a worker in which requests wait, while
another has threads free, ends as many connections as requests wait, each with its next response
(`Connection: close`, RFC 9112 9.6); the client's next connection is accepted by whoever has a
free thread. Runs in the worker, on the watchdog, once a second, and only where `--workers` is a
range. A request that keeps its connection has no more to look at than before: it is the end of
a connection that takes the order back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from gthreadsrv_metrics import labels
from gthreadsrv_metrics.layout import D_STATE, S_SATURATED, T_QUEUE_KERNEL, T_QUEUE_USER
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


class Balance:
    """What this worker knows of its own load and of the others'."""

    def __init__(self, board: Scoreboard, slot: int, services: Sequence[Keeping]) -> None:
        self._board = board
        self._slot = slot
        self._services = services
        self._rows = [board.thread_cells(slot, index) for index in range(len(services))]
        self._seen_at = 0.0
        self._waited_s = self._waits()
        self._saturated: dict[int, float] = {}

    def look(self, now: float) -> None:
        """Compare with a second ago, and let go of connections or not."""
        waited_s, before_s = self._waits(), self._waited_s
        saturated, before = self._others(now), self._saturated
        seconds = now - self._seen_at
        self._waited_s, self._saturated, self._seen_at = waited_s, saturated, now
        waiting = (waited_s - before_s) / seconds
        spare = waiting >= WAITING and any(
            slot in before and total - before[slot] <= FREE * seconds
            for slot, total in saturated.items()
        )
        go = math.ceil(waiting) if spare else 0
        for number, service in enumerate(self._services):
            if number < go:
                let_go(service)
            else:
                keep(service)

    def _waits(self) -> float:
        """What requests of this slot have waited for its threads, in all."""
        return sum(row[T_QUEUE_KERNEL] + row[T_QUEUE_USER] for row in self._rows)

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
