"""The autoscaler's eyes and memory: reads the scoreboard, keeps the window, tells what was full.

Runs in the master and only where `--workers` is a range. What a reading means is the policy's
business (autoscale), carrying out what it says is the arbiter's.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from gthreadsrv import log as logs
from gthreadsrv.master.autoscale import SAMPLE_S, Bounds, Decision, Reading, decide, kept_s
from gthreadsrv_metrics.cgroup import read_cgroup
from gthreadsrv_metrics.proc import cpu_seconds
from gthreadsrv_metrics.reading import read_fleet

if TYPE_CHECKING:
    from collections.abc import Callable

    from gthreadsrv.master.autoscale import Refusal
    from gthreadsrv_metrics.cgroup import CgroupReading
    from gthreadsrv_metrics.scoreboard import Scoreboard

log = logs.get_logger()

_WHY_NOT = {
    "cpu": "the CPU is full, by this server or others: more workers would share it",
    "memory": "another worker, and one to replace it, would not fit into the container's memory",
    "limit": "there are as many as --workers allows",
}
# Threads that are not quite full, or not for a whole second, do not end a refusal.
_NEAR = frozenset({"busy", "too early to tell", "waiting for workers"})


class Autoscaler:
    """One for each set of settings. All instants are CLOCK_MONOTONIC seconds."""

    def __init__(
        self,
        board: Scoreboard,
        bounds: Bounds,
        cores: float,
        cgroup: Callable[[], CgroupReading] = read_cgroup,
    ) -> None:
        """`cores` are the CPUs there are, whatever part of them the container may use."""
        self.bounds = bounds
        self._board = board
        self._cores = cores
        self._cgroup = cgroup
        self._window: deque[Reading] = deque()
        self._cpu_s = 0.0
        self._refusal: Refusal | None = None
        self.due = 0.0

    def look(self, target: int, largest_worker: int, now: float) -> Decision | None:
        """Read and decide, if it is time to."""
        if now < self.due:
            return None
        # A late turn is no reason for two readings in a row.
        self.due = now + SAMPLE_S
        self._window.append(self.read(target, largest_worker, now))
        while len(self._window) > 1 and now - self._window[1].at >= kept_s(self.bounds):
            self._window.popleft()
        decision = decide(self._window, self.bounds)
        self._tell(decision)
        return decision

    def read(self, target: int, largest_worker: int, now: float) -> Reading:
        """The fleet as it is now."""
        fleet = read_fleet(self._board, now)
        ready = [slot for slot in fleet.slots if slot.state == "ready"]
        draining = [slot for slot in fleet.slots if slot.state == "draining"]
        container = self._cgroup()
        cpu_s = 0.0
        for slot in fleet.slots:
            used = cpu_seconds(slot.pid) if slot.live else None
            cpu_s += max(sum(slot.cpu_s), sum(slot.reaped_cpu_s) + (sum(used) if used else 0.0))
        # A process that ends takes what is not yet accounted for out of the sum for a moment.
        self._cpu_s = max(self._cpu_s, cpu_s)
        waits = [cells for source, cells in fleet.queue.items()]
        return Reading(
            at=now,
            target=target,
            ready=len(ready),
            threads=sum(s.threads for s in ready) + sum(s.threads_busy for s in draining),
            busy_s=sum(slot.busy_s for slot in fleet.slots),
            wait_s=sum(cells[0] for cells in waits),
            started=sum(sum(cells[1:]) for cells in waits),
            cpu_s=self._cpu_s,
            cpu_wait_s=sum(slot.runqueue_wait_s or 0.0 for slot in fleet.slots),
            cores=min(container.cpu_limit_cores or self._cores, self._cores),
            throttled_s=container.throttled_s or 0.0,
            memory_left=container.memory_left_bytes,
            worker_memory=largest_worker,
            interpreter_wait_s=sum(slot.interpreter_wait_s for slot in fleet.slots),
        )

    def _tell(self, decision: Decision) -> None:
        """Log and count a refusal once, until it is over."""
        if decision.refusal is None and decision.reason in _NEAR:
            return
        if decision.refusal == self._refusal:
            return
        self._refusal = decision.refusal
        if decision.refusal is not None:
            self._board.master.scale_refused(decision.refusal)
            log.warning(
                "more workers wanted",
                workers=decision.target,
                reason=decision.refusal,
                detail=_WHY_NOT[decision.refusal],
            )
