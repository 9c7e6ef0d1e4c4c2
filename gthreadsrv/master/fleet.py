"""Which workers to fork, to retire and to kill: the master's policy, without its hands.

Pure: told what happened and what time it is, it changes the registry and answers with steps
for others to carry out. `reconcile` compares the workers there are with those wanted, so
nothing depends on the order in which things happen: a reload, a recycling, a crash and a
change of size may overlap in any way.

    * replacement before retirement: a worker is drained only while more are ready than wanted;
    * at most one worker more than wanted is booting to replace another;
    * every order to leave has a deadline, and the slots in use are bounded.

The workers are one fleet, the exporter is another, of one. Not here: processes, signals,
shared memory, logs.
"""

from __future__ import annotations

import itertools
import os
import signal
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from gthreadsrv.master.backoff import STABLE_AFTER_S, Backoff
from gthreadsrv.master.exits import BOOT_FAILED_EXIT_CODE, ExitReason, exit_reason
from gthreadsrv.master.reload import Phase, ReloadPlan, Verdict
from gthreadsrv.master.slots import Departure, Registry, Vacancy, Worker, WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from gthreadsrv.worker.channel import RetireReason

SpawnReason: TypeAlias = Literal["boot", "respawn", "reload", "scale_up", "recycle"]

# From ABRT, on which a worker prints its stacks, to KILL.
ABORT_GRACE_S: Final = 1.0
# A worker that has not finished booting has nothing to finish.
BOOT_DROP_GRACE_S: Final = 2.0


class Terms(NamedTuple):
    """What one revision asks of its fleet. Times are seconds, 0 is never."""

    least: int
    most: int
    timeout_s: float
    graceful_timeout_s: float
    boot_timeout_s: float


class SpawnWorker(NamedTuple):
    """Fork a process of the given revision for a slot."""

    vacancy: Vacancy
    revision: int
    reason: SpawnReason


class SignalWorker(NamedTuple):
    """Send a signal; `why` is None for a KILL that only enforces an earlier order."""

    worker: Worker
    signum: signal.Signals
    why: ExitReason | None


class ReloadFinished(NamedTuple):
    """Every worker runs the new revision."""

    revision: int


Step: TypeAlias = SpawnWorker | SignalWorker | ReloadFinished


class WorkerExited(NamedTuple):
    """What became of a worker, for the log and the counters."""

    worker: Worker
    reason: ExitReason
    ordered: bool
    verdict: Verdict | None  # None: it had been ready


class Fleet:
    """The workers of one kind. All instants are CLOCK_MONOTONIC seconds."""

    def __init__(self, registry: Registry, terms: Terms, heartbeat: Callable[[int], float]) -> None:
        """`heartbeat` reads a slot's last sign of life."""
        self.registry = registry
        self.plan = ReloadPlan()
        self.backoff = Backoff()
        self.target = terms.least
        self._widest = terms.least  # the largest target of which somebody may still be leaving
        self._terms = {0: terms}
        self._heartbeat = heartbeat
        self._reasons: list[SpawnReason] = ["boot"] * terms.least
        self._watched_from = float("-inf")
        self.stopping = False

    # What happened

    def spawned(self, step: SpawnWorker, pid: int, now: float) -> Worker:
        """The process was forked."""
        if step.reason in self._reasons:
            self._reasons.remove(step.reason)
        return self.registry.occupy(step.vacancy, pid, step.revision, now)

    def spawn_failed(self, now: float) -> None:
        """The kernel refused to fork."""
        self.backoff.failed(now, now)

    def ready(self, worker: Worker, now: float) -> None:
        """The worker serves. One that was dropped while booting has said so too late."""
        if worker.state is not WorkerState.BOOTING:
            return
        worker.ready_at = now
        self.registry.move(worker, WorkerState.READY)
        before = self.plan.committed
        self.plan.booted(worker.revision)
        # The first ones have them since the start, and may have been told another size since.
        if self.plan.committed != before:
            self._adopt_bounds(self._terms[self.plan.committed])

    def retire(self, worker: Worker, reason: RetireReason) -> None:
        """The worker asks to be replaced; a more pressing reason comes too late to matter."""
        worker.retire = worker.retire or reason

    def exited(self, worker: Worker, status: int, oom_kills: int, now: float) -> WorkerExited:
        """The process was reaped."""
        departure = worker.departure
        booting = worker.ready_at is None
        reason = exit_reason(
            ordered=departure.reason if departure else None,
            status=status,
            booting=booting,
            killed_by_us=departure is not None and departure.killed,
            oom_kills=oom_kills,
        )
        self.registry.release(worker)
        verdict = None
        if not self.stopping and (departure is None or departure.reason == "boot_error"):
            stable = worker.ready_at is not None and now - worker.ready_at >= STABLE_AFTER_S
            if booting:
                load_error = os.waitstatus_to_exitcode(status) == BOOT_FAILED_EXIT_CODE
                verdict = self.plan.boot_failed(worker.revision, load_error=load_error)
            # A reload given up has cost nothing; the revision fallen back on is not to blame.
            if verdict is not Verdict.GIVE_UP_REVISION and not stable:
                self.backoff.failed(worker.spawned_at, now)
        return WorkerExited(worker, reason, departure is not None, verdict)

    # What is wanted

    def reload(self, terms: Terms) -> int:
        """Replace all workers by those of a new revision, whose number is returned."""
        revision = self.plan.requested()
        # New code, new luck: what crashed was the old.
        self.backoff.pardon()
        in_use = {self.plan.committed, *(worker.revision for worker in self.registry)}
        self._terms = {number: t for number, t in self._terms.items() if number in in_use}
        self._terms[revision] = terms
        # Where nobody is wanted there is nobody to try it with.
        if self.plan.phase is Phase.FIRST_BOOT or (not terms.most and self.plan.booted(revision)):
            self._adopt_bounds(terms)
        return revision

    def resize(self, target: int) -> None:
        """Want so many workers, until the next reload says otherwise."""
        self._reasons += ["scale_up"] * (target - self.target)
        del self._reasons[max(0, target - len(self.registry.active())) :]
        self.target = target

    def stop(self, now: float, grace_s: float, *, quick: bool) -> list[Step]:
        """Tell everybody to leave within `grace_s`, and fork nobody from now on."""
        self.stopping = True
        steps: list[Step] = []
        for worker in self.registry:
            # Some have their orders already: those may get less time now, never more.
            tell_again = worker.departure is not None and quick
            if worker.departure is None:
                steps.append(self._dismiss(worker, "shutdown", now, grace_s, quick=quick))
            elif now + grace_s < worker.departure.kill_at:
                worker.departure = worker.departure._replace(kill_at=now + grace_s)
            if tell_again and worker.ready_at is not None:
                steps.append(SignalWorker(worker, signal.SIGQUIT, "shutdown"))
        return steps

    def forgive(self, now: float) -> None:
        """The whole machine or container stood still until now: judge heartbeats from here on."""
        self._watched_from = now

    # What follows

    def reconcile(self, now: float) -> list[Step]:
        """Everything that is to be done at this instant."""
        steps: list[Step] = []
        self._credit(now)
        self._abort_silent(now, steps)
        if not self.stopping:
            self._retire_surplus(now, steps)
            self._settle(steps)
            self._fill(now, steps)
        self._kill_overdue(now, steps)
        return steps

    def next_deadline(self, now: float) -> float | None:
        """When `reconcile` has something to do although nothing happens; None: never."""
        instants = [self._worker_deadline(worker) for worker in self.registry]
        if not self.stopping and self._short() and self.backoff.retry_at > now:
            instants.append(self.backoff.retry_at)
        due = [instant for instant in instants if instant is not None]
        return min(due, default=None)

    def _worker_deadline(self, worker: Worker) -> float | None:
        if worker.departure is not None:
            return None if worker.departure.killed else worker.departure.kill_at
        terms = self._terms[worker.revision]
        if worker.ready_at is None:
            return worker.spawned_at + terms.boot_timeout_s if terms.boot_timeout_s else None
        silent = self._last_sign(worker) + terms.timeout_s if terms.timeout_s else float("inf")
        stable = worker.ready_at + STABLE_AFTER_S if self._awaits_proof(worker) else float("inf")
        earliest = min(silent, stable)
        return earliest if earliest < float("inf") else None

    def _awaits_proof(self, worker: Worker) -> bool:
        return self.backoff.streak > 0 and worker.spawned_at > self.backoff.failed_at

    def _last_sign(self, worker: Worker) -> float:
        assert worker.ready_at is not None  # noqa: S101  the callers have looked
        return max(self._heartbeat(worker.slot), worker.ready_at, self._watched_from)

    def _credit(self, now: float) -> None:
        for worker in self.registry.in_state(WorkerState.READY):
            if worker.ready_at is not None and now - worker.ready_at >= STABLE_AFTER_S:
                self.backoff.succeeded(worker.spawned_at)

    def _abort_silent(self, now: float, steps: list[Step]) -> None:
        for worker in self.registry.active():
            terms = self._terms[worker.revision]
            if worker.ready_at is None:
                if terms.boot_timeout_s and now - worker.spawned_at >= terms.boot_timeout_s:
                    steps.append(self._abort(worker, "boot_error", now))
            elif terms.timeout_s and now - self._last_sign(worker) >= terms.timeout_s:
                steps.append(self._abort(worker, "heartbeat", now))

    def _abort(self, worker: Worker, reason: ExitReason, now: float) -> Step:
        self._send_away(worker, reason, now + ABORT_GRACE_S)
        return SignalWorker(worker, signal.SIGABRT, reason)

    def _retire_surplus(self, now: float, steps: list[Step]) -> None:
        ready = sorted(self.registry.in_state(WorkerState.READY), key=self._leaving_order)
        for worker in ready[: max(0, len(ready) - self.target)]:
            grace_s = self._terms[worker.revision].graceful_timeout_s
            steps.append(self._dismiss(worker, self._departure_reason(worker), now, grace_s))
        # What boots an old revision would be replaced at once; and it may hang, which is why
        # somebody asked for another.
        steps += [
            self._dismiss(worker, "reload", now, BOOT_DROP_GRACE_S)
            for worker in self.registry.in_state(WorkerState.BOOTING)
            if worker.revision != self.plan.desired
        ]
        booting = self.registry.in_state(WorkerState.BOOTING)
        excess = len(self.registry.active()) - self.target - (1 if self._outdated_ready() else 0)
        steps += [
            self._dismiss(worker, "scale_down", now, BOOT_DROP_GRACE_S)
            for worker in booting[::-1][: max(0, excess)]
        ]

    def _leaving_order(self, worker: Worker) -> tuple[int, int]:
        # Those that asked first, then those of an old revision from the lowest slot on; a fleet
        # that shrinks gives up high slots.
        if worker.retire is not None:
            return (0, worker.slot)
        return (1, worker.slot) if self._outdated(worker) else (2, -worker.slot)

    def _departure_reason(self, worker: Worker) -> ExitReason:
        if worker.retire is not None:
            return worker.retire
        return "reload" if worker.revision != self.plan.desired else "scale_down"

    def _outdated(self, worker: Worker) -> bool:
        return worker.revision != self.plan.desired or worker.retire is not None

    def _outdated_ready(self) -> list[Worker]:
        ready = self.registry.in_state(WorkerState.READY)
        return [worker for worker in ready if self._outdated(worker)]

    def _settle(self, steps: list[Step]) -> None:
        active = self.registry.active()
        if any(worker.revision != self.plan.desired for worker in active):
            return
        if len(self.registry.in_state(WorkerState.READY)) < self.target:
            return
        revision = self.plan.settled()
        if revision is not None:
            steps.append(ReloadFinished(revision))

    def _short(self) -> int:
        """How many workers are to be forked as soon as that is allowed."""
        missing = self.target - len(self.registry.active())
        booting = self.registry.in_state(WorkerState.BOOTING)
        wanted = max(0, missing)
        if missing == 0 and self._outdated_ready():
            # Whoever boots for another reason comes first.
            under_way = any(worker.revision == self.plan.desired for worker in booting)
            wanted = 0 if under_way else 1
        if self.backoff.cautious:
            return 0 if booting else min(wanted, 1)
        return wanted

    def _fill(self, now: float, steps: list[Step]) -> None:
        leaving = self.registry.in_state(WorkerState.DRAINING)
        self._widest = max(self._widest, self.target) if leaving else self.target
        count = self._short()
        if count == 0 or self.backoff.retry_at > now:
            return
        # Spares: one for a replacement, and some for workers that still finish long requests.
        # As many as at the largest size they may be of: a fleet that has shrunk need not wait.
        limit = self._widest + 1 + max(1, self._widest // 2)
        if self.target == len(self.registry.active()):
            self._reasons = [self._replacement_reason()]
        otherwise: SpawnReason = "respawn"
        reasons = itertools.chain(self._reasons, itertools.repeat(otherwise))
        for vacancy, reason in zip(self.registry.vacancies(count, limit), reasons, strict=False):
            steps.append(SpawnWorker(vacancy, self.plan.desired, reason))

    def _replacement_reason(self) -> SpawnReason:
        to_replace = self._outdated_ready()[0]
        return "reload" if to_replace.revision != self.plan.desired else "recycle"

    @property
    def bounds(self) -> Terms:
        """What the revision in force asks for."""
        return self._terms[self.plan.committed]

    def _adopt_bounds(self, terms: Terms) -> None:
        target = min(max(self.target, terms.least), terms.most)
        added: SpawnReason = "boot" if self.plan.phase is Phase.FIRST_BOOT else "reload"
        del self._reasons[target:]
        self._reasons += [added] * (target - self.target)
        self.target = target

    def _dismiss(
        self,
        worker: Worker,
        reason: ExitReason,
        now: float,
        grace_s: float,
        *,
        quick: bool = False,
    ) -> Step:
        # While booting TERM still has the kernel's own meaning, which also ends an import that
        # never comes back; QUIT would leave a core file.
        booting = worker.ready_at is None
        if booting:
            grace_s = min(grace_s, BOOT_DROP_GRACE_S)
        self._send_away(worker, reason, now + grace_s)
        signum = signal.SIGQUIT if quick and not booting else signal.SIGTERM
        return SignalWorker(worker, signum, reason)

    def _send_away(self, worker: Worker, reason: ExitReason, kill_at: float) -> None:
        worker.departure = Departure(reason, kill_at)
        self.registry.move(worker, WorkerState.DRAINING)

    def _kill_overdue(self, now: float, steps: list[Step]) -> None:
        for worker in self.registry:
            departure = worker.departure
            if departure and not departure.killed and now >= departure.kill_at:
                worker.departure = departure._replace(killed=True)
                steps.append(SignalWorker(worker, signal.SIGKILL, None))
