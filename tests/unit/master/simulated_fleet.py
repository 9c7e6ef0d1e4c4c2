"""A fleet whose processes are made up: the clock, the pids and all deaths are the test's."""

from __future__ import annotations

import itertools
import signal
from typing import Any

from gthreadsrv.master.fleet import (
    Fleet,
    ReloadFinished,
    SignalWorker,
    SpawnWorker,
    Terms,
    WorkerExited,
)
from gthreadsrv.master.slots import Registry, Worker, WorkerState

KILLED = int(signal.SIGKILL)
LOAD_ERROR = 3 << 8


class Simulation:
    """Carries out a fleet's steps in memory, and keeps a record of them."""

    def __init__(self, target: int = 4, capacity: int = 16, **terms: Any) -> None:
        self.now = 1000.0
        self.heartbeats: dict[int, float] = {}
        self.fleet = Fleet(
            Registry(capacity),
            self.terms(target, **terms),
            lambda slot: self.heartbeats.get(slot, 0.0),
        )
        self.pids = itertools.count(100)
        self.spawned: list[SpawnWorker] = []
        self.signals: list[SignalWorker] = []
        self.reloads: list[int] = []
        self.ends: list[WorkerExited] = []

    @staticmethod
    def terms(
        target: int,
        timeout_s: float = 30.0,
        graceful_timeout_s: float = 20.0,
        boot_timeout_s: float = 0.0,
        most: int = 0,
    ) -> Terms:
        return Terms(target, max(target, most), timeout_s, graceful_timeout_s, boot_timeout_s)

    def turn(self, after_s: float = 0.0) -> None:
        """Let time pass, and do what the fleet says."""
        self.now += after_s
        for step in self.fleet.reconcile(self.now):
            match step:
                case SpawnWorker():
                    self.spawned.append(step)
                    worker = self.fleet.spawned(step, next(self.pids), self.now)
                    self.heartbeats[worker.slot] = 0.0
                case SignalWorker():
                    self.signals.append(step)
                case ReloadFinished(revision):
                    self.reloads.append(revision)

    def workers(self, state: WorkerState) -> list[Worker]:
        return self.fleet.registry.in_state(state)

    @property
    def booting(self) -> list[Worker]:
        return self.workers(WorkerState.BOOTING)

    @property
    def ready(self) -> list[Worker]:
        return self.workers(WorkerState.READY)

    @property
    def draining(self) -> list[Worker]:
        return self.workers(WorkerState.DRAINING)

    def boot(self, *workers: Worker) -> None:
        """These (all, without a name) become ready."""
        for worker in workers or self.booting:
            self.fleet.ready(worker, self.now)
        self.turn()

    def die(self, worker: Worker, status: int = KILLED, oom_kills: int = 0) -> WorkerExited:
        """This one's process is reaped."""
        ended = self.fleet.exited(worker, status, oom_kills, self.now)
        self.ends.append(ended)
        self.turn()
        return ended

    def leave(self) -> None:
        """All that drain do leave."""
        for worker in self.draining:
            self.die(worker, 0)

    def start(self) -> Simulation:
        """Everybody is ready and has been for a while."""
        self.turn()
        self.boot()
        self.turn(5.0)
        self.spawned.clear()
        return self

    def settle(self) -> None:
        """Let everything go well until nothing is left to do."""
        for _ in range(200):
            self.turn(0.01)
            busy = bool(self.booting or self.draining)
            self.boot()
            self.leave()
            deadline = self.fleet.next_deadline(self.now)
            if not busy and self.fleet.backoff.retry_at <= self.now:
                return
            if not busy and deadline is not None:
                self.now = max(self.now, deadline)
                for worker in self.ready:
                    self.heartbeats[worker.slot] = self.now
        raise AssertionError("the fleet does not come to rest")
