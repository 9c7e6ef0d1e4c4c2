"""A fleet and its processes: carries out the fleet's steps and tells it what became of them.

Runs in the master. There are two groups: the workers, and the exporter, which is a worker of
another application. What sets them apart comes in as values and callables. Not here: policy
(fleet), signals to the master, reloads (arbiter).
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from gthreadsrv import log as logs
from gthreadsrv.hooks.calling import HookError
from gthreadsrv.master.exits import BOOT_FAILED_EXIT_CODE, describe
from gthreadsrv.master.fleet import Fleet, ReloadFinished, SignalWorker, SpawnWorker, Terms
from gthreadsrv.master.slots import Registry, Vacancy, Worker, WorkerState
from gthreadsrv.master.spawn import spawn
from gthreadsrv.worker.channel import (
    BootFailed,
    CodeChanged,
    Garbled,
    RetireRequested,
    WorkerReady,
    open_channel,
)
from gthreadsrv.worker.context import WorkerContext
from gthreadsrv.worker.watchdog import BEAT_S
from gthreadsrv_metrics.layout import S_HEARTBEAT

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from gthreadsrv.hooks import MasterHooks, WorkerHooks
    from gthreadsrv.hooks.views import App
    from gthreadsrv.master.fleet import Step, WorkerExited
    from gthreadsrv.master.identity import Identity
    from gthreadsrv.master.reap import ChildExited, OomCounter
    from gthreadsrv.master.signals import SignalInbox
    from gthreadsrv.master.switchboard import Switchboard
    from gthreadsrv.net.listeners import Listener
    from gthreadsrv.settings import Settings
    from gthreadsrv_metrics.scoreboard import Scoreboard
    from gthreadsrv_metrics.sources import Sources

log = logs.get_logger()

RunWorker: TypeAlias = "Callable[[WorkerContext], int]"


class Revision(NamedTuple):
    """What the processes of one revision are made from."""

    settings: Settings
    listeners: tuple[Listener, ...]
    identity: Identity | None  # whom its processes become
    app: App  # loaded already when preloaded
    least: int
    most: int
    tls: ssl.SSLContext | None = None  # what its listeners speak
    shown: tuple[Listener, ...] = ()  # listeners it reports about without serving them
    told: Sources | None = None  # what else it reports

    @property
    def sources(self) -> tuple[object, ...]:
        """All that makes its processes what they are, for comparison with another."""
        about = (self.shown, self.told)
        return (self.settings, self.listeners, self.identity, self.least, self.most, *about)

    @property
    def terms(self) -> Terms:
        """The part the fleet decides by."""
        return Terms(
            self.least,
            self.most,
            # In the best of health a heartbeat is up to a beat old.
            self.settings.timeout and self.settings.timeout + BEAT_S,
            self.settings.graceful_timeout,
            self.settings.boot_timeout,
        )


class Group:
    """All processes of one role. Owned by the master's only thread."""

    def __init__(
        self,
        role: Literal["worker", "exporter"],
        board: Scoreboard,
        revision: Revision,
        *,
        run: RunWorker,
        enter: Callable[[Vacancy, Revision], None],
        forget: Callable[[int], None],
        switchboard: Switchboard,
        signals: SignalInbox,
        oom: OomCounter,
        hooks: MasterHooks | None = None,
    ) -> None:
        """`enter` is called in each child before anything else, `forget` for a slot left."""
        self._hooks = hooks
        self.role = role
        self.board = board
        self._run = run
        self._enter = enter
        self._forget = forget
        self._switchboard = switchboard
        self._signals = signals
        self._oom = oom
        self._revisions = {0: revision}
        self._said: dict[int, BootFailed] = {}  # by pid: why it could not boot
        self._changed: list[str] = []
        registry = Registry(board.slots, self._moved)
        self.fleet = Fleet(registry, revision.terms, self._heartbeat)

    # Revisions

    @property
    def desired(self) -> Revision:
        """What a process forked now is made from."""
        return self._revisions[self.fleet.plan.desired]

    def reload(self, revision: Revision) -> int:
        """Replace all processes by those of a new revision; its number."""
        number = self.fleet.reload(revision.terms)
        self._revisions[number] = revision
        return number

    def serving(self) -> set[Listener]:
        """Listeners that a process accepts from, or will."""
        numbers = {worker.revision for worker in self.fleet.registry.active()}
        return self._listeners(numbers if self.fleet.stopping else numbers | self._kept())

    def holding(self) -> set[Listener]:
        """Listeners that some process has, or will have, open."""
        numbers = {worker.revision for worker in self.fleet.registry}
        return self._listeners(numbers if self.fleet.stopping else numbers | self._kept())

    def _kept(self) -> set[int]:
        return {self.fleet.plan.desired, self.fleet.plan.committed}

    def _listeners(self, numbers: Iterable[int]) -> set[Listener]:
        return {listener for number in numbers for listener in self._revisions[number].listeners}

    def _forget_revisions(self) -> None:
        used = self._kept() | {worker.revision for worker in self.fleet.registry}
        self._revisions = {n: revision for n, revision in self._revisions.items() if n in used}

    # What happened

    def hear(self, pid: int, now: float) -> None:
        """A process has something to say."""
        worker = self.fleet.registry.by_pid(pid)
        if worker is None:
            return
        for message in self._switchboard.hear(pid):
            match message:
                case WorkerReady():
                    self.fleet.ready(worker, now)
                case BootFailed():
                    self._said[pid] = message
                case RetireRequested(reason):
                    log.info(self._event("asks to be replaced"), reason=reason, **_identity(worker))
                    self.fleet.retire(worker, reason)
                case CodeChanged(path):
                    self._changed.append(path)
                case Garbled():
                    log.warning(
                        self._event("has sent nonsense"),
                        detail="something in it writes to descriptors that are not its own",
                        **_identity(worker),
                    )

    def changed_code(self) -> list[str]:
        """Files that workers have found changed, since the last call."""
        changed, self._changed = self._changed, []
        return changed

    def reaped(self, child: ChildExited, now: float) -> WorkerExited | None:
        """A child is gone; None if it was not one of ours."""
        worker = self.fleet.registry.by_pid(child.pid)
        if worker is None:
            return None
        # Its last words may have arrived together with its death.
        self.hear(child.pid, now)
        self._switchboard.disconnect(child.pid)
        killed = os.WIFSIGNALED(child.status) and os.WTERMSIG(child.status) == signal.SIGKILL
        self.board.master.release(worker.slot, now, child.usage)
        exited = self.fleet.exited(worker, child.status, self._oom.moved() if killed else 0, now)
        self.board.master.exited(exited.reason)
        self._forget(worker.slot)
        if self._hooks is not None:
            self._hooks.reaped(child.pid)
        self._log_exit(exited, child.status, now)
        self._forget_revisions()
        return exited

    # What follows

    def plan(self, now: float) -> list[Step]:
        """What is to be done now; to be given to `carry_out`."""
        return self.fleet.reconcile(now)

    def carry_out(self, steps: Iterable[Step], now: float) -> list[ReloadFinished]:
        """Fork and signal; what is for the arbiter comes back."""
        finished = []
        for step in steps:
            match step:
                case SpawnWorker():
                    self._spawn(step, now)
                case SignalWorker(worker, signum, why):
                    self._signal(worker, signum, why)
                case ReloadFinished():
                    finished.append(step)
        return finished

    def stop(self, now: float, grace_s: float, *, quick: bool) -> list[Step]:
        """Everybody leaves; steps for `carry_out`."""
        return self.fleet.stop(now, grace_s, quick=quick)

    def signal_all(self, signum: signal.Signals) -> None:
        """Pass a signal on to all that live."""
        for worker in self.fleet.registry:
            _kill(worker.pid, signum)

    def _spawn(self, step: SpawnWorker, now: float) -> None:
        revision = self._revisions[step.revision]
        hooks = None
        if self._hooks is not None:
            hooks = self._hooks.before_fork(revision.settings, revision.app, revision.listeners)
            if hooks is None:
                self.fleet.spawn_failed(now)
                return
        try:
            master_end, worker_end = open_channel()
        except OSError as error:
            self._spawn_failed(error, now)
            return
        context = WorkerContext(
            settings=revision.settings,
            slot=step.vacancy.slot,
            generation=step.vacancy.generation,
            listeners=revision.listeners,
            board=self.board,
            channel=worker_end,
            app=revision.app.callable,
            load=revision.app.wsgi,
            tls=revision.tls,
            role=self.role,
            hooks=hooks,
        )

        def live() -> int:
            master_end.close()
            self._enter(step.vacancy, revision)
            context.show_state("booting")
            return self._run(context) if hooks is None else _run_hooked(self._run, context, hooks)

        try:
            pid = spawn(live, self._signals)
        except OSError as error:
            master_end.close()
            self._spawn_failed(error, now)
            return
        finally:
            worker_end.close()
        self._switchboard.connect(pid, master_end)
        if self._hooks is not None and hooks is not None:
            self._hooks.forked(hooks, pid)
        worker = self.fleet.spawned(step, pid, now)
        self.board.master.spawned(step.reason)
        log.debug(self._event("spawned"), reason=step.reason, **_identity(worker))

    def _spawn_failed(self, error: OSError, now: float) -> None:
        log.error(self._event("cannot be forked"), reason=error.strerror)
        self.fleet.spawn_failed(now)

    def _signal(self, worker: Worker, signum: signal.Signals, why: str | None) -> None:
        if signum is signal.SIGKILL:
            log.warning(self._event("killed"), detail="time is up", **_identity(worker))
        elif signum is signal.SIGABRT:
            log.error(self._event("silent"), reason=why, **_identity(worker))
        else:
            log.debug(self._event("told to leave"), reason=why, **_identity(worker))
        _kill(worker.pid, signum)

    def _moved(self, worker: Worker) -> None:
        # FREE is written by `reaped`, which knows the time and the usage.
        master = self.board.master
        match worker.state:
            case WorkerState.BOOTING:
                threads = self._revisions[worker.revision].settings.threads
                master.lease(
                    worker.slot,
                    worker.pid,
                    worker.generation,
                    worker.spawned_at,
                    threads=threads,
                )
            case WorkerState.READY if worker.ready_at is not None:
                seconds = worker.ready_at - worker.spawned_at
                master.set_state(worker.slot, "ready")
                master.booted(seconds)
                log.info(self._event("ready"), seconds=round(seconds, 3), **_identity(worker))
            case WorkerState.DRAINING:
                master.set_state(worker.slot, "draining")

    def _heartbeat(self, slot: int) -> float:
        return self.board.slot_cells(slot)[S_HEARTBEAT]

    def _log_exit(self, exited: WorkerExited, status: int, now: float) -> None:
        worker = exited.worker
        said = self._said.pop(worker.pid, None)
        fields: dict[str, object] = {
            "reason": exited.reason,
            "status": describe(status),
            **_identity(worker),
        }
        # By itself a worker leaves with 0 only when told: somebody sent TERM to the whole group.
        # A boot that took too long was ended by us, and is none the better for it.
        left = exited.ordered and exited.verdict is None
        if left or (exited.reason == "signal" and not status):
            log.info(self._event("left"), **fields)
            return
        if said is not None:
            fields["detail"] = said.detail
            if said.traceback:
                fields["exception"] = said.traceback.rstrip("\n")
        retry_s = self.fleet.backoff.retry_at - now
        if retry_s > 0:
            fields["retry_in_seconds"] = round(retry_s, 3)
        log.error(self._event("could not boot" if exited.verdict else "died"), **fields)

    def _event(self, what: str) -> str:
        return f"{self.role} {what}"


def _run_hooked(run: RunWorker, context: WorkerContext, hooks: WorkerHooks) -> int:
    """A worker's life with its hooks, in the child."""
    try:
        hooks.forked()
        return run(context)
    except HookError as error:
        context.channel.send(BootFailed(str(error), error.traceback))
        return BOOT_FAILED_EXIT_CODE
    finally:
        hooks.exiting()


def _identity(worker: Worker) -> dict[str, int]:
    return {"worker": worker.slot, "generation": worker.generation, "worker_pid": worker.pid}


def _kill(pid: int, signum: signal.Signals) -> None:
    # A child that has ended but is not reaped yet still has its pid, so this cannot hit another.
    with suppress(ProcessLookupError):
        os.kill(pid, signum)
