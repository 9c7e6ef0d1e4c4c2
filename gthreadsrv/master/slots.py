"""Who is who: slots, the worker in each, and the one state machine of a worker's life.

Pure bookkeeping: no fork, signal or clock; the master passes pids and instants in. A worker
is slot + generation + pid. A slot is leased again only after its process has been reaped.
Not here: deciding when a worker starts or leaves (fleet), and telling anybody (group).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gthreadsrv.master.exits import ExitReason
    from gthreadsrv.worker.channel import RetireReason


class WorkerState(enum.Enum):
    """As the master sees it; the values are the scoreboard's names."""

    FREE = "free"
    BOOTING = "booting"  # forked, loading the application
    READY = "ready"  # has said so; only now does it count
    DRAINING = "draining"  # told to leave


# Every state but FREE may end at once: a process can die at any time.
TRANSITIONS: Final[dict[WorkerState, frozenset[WorkerState]]] = {
    WorkerState.FREE: frozenset({WorkerState.BOOTING}),
    WorkerState.BOOTING: frozenset({WorkerState.READY, WorkerState.DRAINING, WorkerState.FREE}),
    WorkerState.READY: frozenset({WorkerState.DRAINING, WorkerState.FREE}),
    WorkerState.DRAINING: frozenset({WorkerState.FREE}),
}

ACTIVE: Final = frozenset({WorkerState.BOOTING, WorkerState.READY})


class IllegalTransitionError(Exception):
    """BUG: a worker was moved where the table has no way."""


class Departure(NamedTuple):
    """An order to leave: why, and when patience ends."""

    reason: ExitReason
    kill_at: float
    killed: bool = False


class Vacancy(NamedTuple):
    """A free slot, and the generation its next process will be."""

    slot: int
    generation: int


@dataclass(slots=True, eq=False)
class Worker:
    """One process. Changed by the registry (state) and the fleet (the rest) alone."""

    slot: int
    generation: int
    pid: int
    revision: int  # of settings and listeners, see reload
    spawned_at: float
    state: WorkerState = WorkerState.FREE
    ready_at: float | None = None
    retire: RetireReason | None = None  # it asked to be replaced
    departure: Departure | None = None

    @property
    def active(self) -> bool:
        """Whether it serves or soon will."""
        return self.state in ACTIVE


class Registry:
    """All workers by pid and by slot. `moved` is told of each change of state."""

    __slots__ = ("_generations", "_moved", "_slots", "_workers", "capacity")

    def __init__(self, capacity: int, moved: Callable[[Worker], None] = lambda _: None) -> None:
        self.capacity = capacity
        self._generations = [0] * capacity
        self._slots: set[int] = set()
        self._workers: dict[int, Worker] = {}
        self._moved = moved

    def __iter__(self) -> Iterator[Worker]:
        return iter(sorted(self._workers.values(), key=lambda worker: worker.slot))

    def __len__(self) -> int:
        return len(self._workers)

    def by_pid(self, pid: int) -> Worker | None:
        """The worker with this pid."""
        return self._workers.get(pid)

    def active(self) -> list[Worker]:
        """Workers that serve or soon will, by slot."""
        return [worker for worker in self if worker.active]

    def in_state(self, state: WorkerState) -> list[Worker]:
        """Workers in one state, by slot."""
        return [worker for worker in self if worker.state is state]

    def vacancies(self, count: int, limit: int) -> list[Vacancy]:
        """Up to `count` free slots below `limit`, lowest first, so that labels stay few."""
        free = [slot for slot in range(min(limit, self.capacity)) if slot not in self._slots]
        return [Vacancy(slot, self._generations[slot] + 1) for slot in free[:count]]

    def occupy(self, vacancy: Vacancy, pid: int, revision: int, now: float) -> Worker:
        """A process was forked for the slot."""
        if vacancy.slot in self._slots or pid in self._workers:
            raise IllegalTransitionError(f"BUG: slot {vacancy.slot} or pid {pid} is taken")
        worker = Worker(vacancy.slot, vacancy.generation, pid, revision, now)
        self._generations[vacancy.slot] = vacancy.generation
        self._slots.add(vacancy.slot)
        self._workers[pid] = worker
        self.move(worker, WorkerState.BOOTING)
        return worker

    def release(self, worker: Worker) -> None:
        """Its process has been reaped: the slot may be leased again."""
        self.move(worker, WorkerState.FREE)
        self._slots.discard(worker.slot)
        del self._workers[worker.pid]

    def move(self, worker: Worker, state: WorkerState) -> None:
        """The only place where a state changes."""
        if state not in TRANSITIONS[worker.state]:
            raise IllegalTransitionError(
                f"BUG: worker in slot {worker.slot} cannot go "
                f"from {worker.state.value} to {state.value}"
            )
        worker.state = state
        self._moved(worker)
