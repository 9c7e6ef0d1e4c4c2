"""Which worker is to be replaced for its age or its memory: one at a time, the rest serve.

Policy without hands: it marks a worker, and the fleet replaces those that are marked, the new
one first. A limit of 0 is none. Each worker's lifetime is up to a tenth shorter than asked for,
by chance, so that workers that started together are not due together.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gthreadsrv.master.slots import Worker
    from gthreadsrv.worker.channel import RetireReason

JITTER: Final = 0.1
_MINE: Final = ("max_lifetime", "max_rss")


class Recycling:
    """The limits, and what is remembered of each process."""

    __slots__ = ("_chance", "_held_at_boot", "_lifetimes", "lifetime_s", "most_bytes")

    def __init__(
        self,
        lifetime_s: float,
        most_bytes: int,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.lifetime_s = lifetime_s
        self.most_bytes = most_bytes
        self._chance = chance
        self._lifetimes: dict[int, float] = {}  # by pid
        self._held_at_boot: dict[int, int] = {}  # by pid: its first figure

    def adopt(self, lifetime_s: float, most_bytes: int) -> None:
        """Other limits from now on; what is known of processes stays known."""
        if lifetime_s != self.lifetime_s:
            self._lifetimes.clear()
        self.lifetime_s, self.most_bytes = lifetime_s, most_bytes

    def next_deadline(self, workers: Iterable[Worker]) -> float | None:
        """When a worker reaches its age, if nothing else happens."""
        fleet = list(workers)
        if not self.lifetime_s or _under_way(fleet):
            return None
        return min((self._ends_at(worker) for worker in _candidates(fleet)), default=None)

    def choose(
        self, workers: Iterable[Worker], now: float, held: Mapping[int, int]
    ) -> tuple[Worker, RetireReason] | None:
        """Whom to replace now, and why. `held` are figures of memory that are new."""
        fleet = list(workers)
        pids = {worker.pid for worker in fleet}
        self._lifetimes = {pid: s for pid, s in self._lifetimes.items() if pid in pids}
        self._held_at_boot = {pid: n for pid, n in self._held_at_boot.items() if pid in pids}
        for pid, held_bytes in held.items():
            self._held_at_boot.setdefault(pid, held_bytes)
        candidates = _candidates(fleet)
        if not candidates or _under_way(fleet):
            return None
        if self.most_bytes:
            grown = [
                worker
                for worker in candidates
                if held.get(worker.pid, 0) > self.most_bytes and self.may_shrink(worker)
            ]
            if grown:
                return max(grown, key=lambda worker: held[worker.pid]), "max_rss"
        if self.lifetime_s:
            oldest = min(candidates, key=self._ends_at)
            if self._ends_at(oldest) <= now:
                return oldest, "max_lifetime"
        return None

    def may_shrink(self, worker: Worker) -> bool:
        """Whether a new process would hold less: not if this one began above the limit."""
        return self._held_at_boot.get(worker.pid, 0) <= self.most_bytes

    def _ends_at(self, worker: Worker) -> float:
        assert worker.ready_at is not None  # noqa: S101  the callers have looked
        lifetime_s = self._lifetimes.get(worker.pid)
        if lifetime_s is None:
            lifetime_s = self.lifetime_s * (1.0 - JITTER * self._chance())
            self._lifetimes[worker.pid] = lifetime_s
        return worker.ready_at + lifetime_s


def _candidates(workers: Iterable[Worker]) -> list[Worker]:
    """Those that serve and have not asked to be replaced."""
    return [one for one in workers if one.ready_at is not None and one.active and not one.retire]


def _under_way(workers: Iterable[Worker]) -> bool:
    """Whether a worker is being replaced for such a reason."""
    return any(
        worker.retire in _MINE or (worker.departure and worker.departure.reason in _MINE)
        for worker in workers
    )
