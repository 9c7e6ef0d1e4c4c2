"""What the master does by the clock while it serves: how many workers, and which are too old.

Brings together the parts that look at running workers (memory, recycling, autoscaling), as the
settings of the moment ask for them. With all of them off it has no deadline, and the master
sleeps until something happens.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gthreadsrv import log as logs
from gthreadsrv.master.autoscale import Bounds
from gthreadsrv.master.autoscaler import Autoscaler
from gthreadsrv.master.recycling import Recycling
from gthreadsrv.master.slots import WorkerState
from gthreadsrv.master.worker_memory import WorkerMemory, held_by
from gthreadsrv.sizing import read_cpus
from gthreadsrv_metrics.cgroup import read_cgroup

if TYPE_CHECKING:
    from collections.abc import Callable

    from gthreadsrv.master.fleet import Fleet
    from gthreadsrv.master.slots import Worker
    from gthreadsrv.settings import Settings
    from gthreadsrv_metrics.scoreboard import Scoreboard

log = logs.get_logger()


class Upkeep:
    """Owned by the master's only thread."""

    def __init__(
        self,
        fleet: Fleet,
        board: Scoreboard,
        settings: Settings,
        resized: Callable[[int, int], None] = lambda _new, _old: None,
    ) -> None:
        """Nothing is read before the first worker is ready.

        ``resized`` hears of each change of the number of workers, new and old.
        """
        self._resized = resized
        self._fleet = fleet
        self._board = board
        self._memory = WorkerMemory()
        self._recycling = Recycling(0.0, 0)
        self._scaler: Autoscaler | None = None
        self._fit_checked = False
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """These settings are in force from now on."""
        self._settings = settings
        self._recycling.adopt(settings.max_lifetime, settings.max_rss)
        self._warned_of_size = False
        bounds = Bounds(settings.least_workers, settings.most_workers, settings.scale_down_after)
        if bounds.least == bounds.most:
            self._scaler = None
        elif self._scaler is None or self._scaler.bounds != bounds:
            self._scaler = Autoscaler(self._board, bounds, read_cpus(os.environ).count)

    def turn(self, now: float) -> None:
        """Look at what is due; fleet and scoreboard are told what follows."""
        ready = self._fleet.registry.in_state(WorkerState.READY)
        if not ready or not self._fleet.target:  # none, or sent away by WINCH
            return
        if not self._fit_checked:
            self._fit_checked = True
            self._check_fit(ready[0])
        held = {}
        if self._measures:
            held = self._memory.look((worker.pid for worker in ready), now)
        self._recycle(held, now)
        if self._scaler is not None:
            decision = self._scaler.look(self._fleet.target, self._memory.largest, now)
            if decision is not None and decision.target != self._fleet.target:
                self.resize(decision.target, decision.reason)

    def next_deadline(self) -> float | None:
        """When something is due though nothing happens."""
        if not self._fleet.registry.in_state(WorkerState.READY):
            return None
        instants = [self._recycling.next_deadline(self._fleet.registry)]
        if self._measures:
            instants.append(self._memory.next_deadline())
        if self._scaler is not None:
            instants.append(self._scaler.due)
        return min((instant for instant in instants if instant is not None), default=None)

    def resize(self, target: int, reason: str) -> None:
        """Want so many workers."""
        before = self._fleet.target
        self._fleet.resize(target)
        self._board.master.scaled("up" if target > before else "down")
        log.info("workers wanted", workers=target, reason=reason)
        self._resized(target, before)

    @property
    def _measures(self) -> bool:
        """Whether anything depends on the workers' memory."""
        return bool(self._recycling.most_bytes) or self._scaler is not None

    def _recycle(self, held: dict[int, int], now: float) -> None:
        most = self._recycling.most_bytes
        chosen = self._recycling.choose(self._fleet.registry, now, held)
        if chosen is None:
            large = [pid for pid, number in held.items() if most and number > most]
            worker = self._fleet.registry.by_pid(large[0]) if large else None
            if worker and not self._warned_of_size and not self._recycling.may_shrink(worker):
                self._warned_of_size = True
                log.warning(
                    "max_rss too small",
                    detail="a worker has more than this when it has just booted, so that replacing "
                    "it would not help: raise --max-rss",
                    memory_bytes=held[worker.pid],
                    max_rss=most,
                )
            return
        worker, reason = chosen
        fields: dict[str, object] = {"worker": worker.slot, "worker_pid": worker.pid}
        if reason == "max_rss":
            fields.update(memory_bytes=held[worker.pid], max_rss=most)
        elif worker.ready_at is not None:
            fields.update(age_seconds=round(now - worker.ready_at, 1))
        log.info("worker to be replaced", reason=reason, **fields)
        self._fleet.retire(worker, reason)

    def _check_fit(self, worker: Worker) -> None:
        """Warn of a fleet that cannot fit into the container, before the kernel kills it."""
        limit = read_cgroup().memory_limit_bytes
        held = held_by(worker.pid)
        most = self._settings.most_workers
        if limit is None or held is None or held * (most + 1) <= limit:
            return
        what = f"{most} workers of this size are more than the container's limit"
        if held * most <= limit:
            what = (
                f"{most} workers of this size fit into the container's limit, but not the one more "
                "that a reload or a recycling boots first"
            )
        log.warning(
            "memory may not suffice",
            detail=f"{what}: run fewer --workers with more --threads, share memory by --preload, "
            "or raise the limit",
            worker_bytes=held,
            limit_bytes=limit,
        )
