"""The master's loop: sleep, learn what happened, let the fleets decide, act.

One thread that never blocks but in the switchboard's wait, whose timeout is the next deadline
of anything there is; with nothing due it sleeps. Decisions are made by pure parts (fleet,
reload, shutdown); this file connects them with signals, children and listeners.
"""

from __future__ import annotations

import signal
import time
from traceback import format_exc
from typing import TYPE_CHECKING, Final

from gthreadsrv import log as logs
from gthreadsrv.errors import GthreadsrvError, StopRequestedError
from gthreadsrv.master.changes import Changes
from gthreadsrv.master.exits import BOOT_FAILED_EXIT_CODE
from gthreadsrv.master.reap import reap
from gthreadsrv.master.reload import Phase as ReloadPhase
from gthreadsrv.master.reload import Verdict
from gthreadsrv.master.shutdown import Event, Phase, Shutdown
from gthreadsrv.master.signals import in_foreground
from gthreadsrv.master.upkeep import Upkeep
from gthreadsrv.worker.title import set_title
from gthreadsrv_metrics.health import HEARTBEAT_LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from gthreadsrv.hooks import MasterHooks
    from gthreadsrv.master.group import Group
    from gthreadsrv.master.handover import Handover
    from gthreadsrv.master.listening import Listening
    from gthreadsrv.master.notify import Notifier
    from gthreadsrv.master.revisions import RevisionPair, Revisions
    from gthreadsrv.master.signals import SignalInbox
    from gthreadsrv.master.switchboard import Switchboard
    from gthreadsrv.settings import Loaded, Settings
    from gthreadsrv_metrics.scoreboard import MasterRow

# Later than this the machine, or the container, stood still (suspend, freezer, a starved CPU):
# heartbeats missed in that time are nobody's fault.
_STANDSTILL_S: Final = 1.0

# A sleeping master is alive: /livez believes it for HEARTBEAT_LIMIT_S after each sign of life.
_BEAT_S: Final = HEARTBEAT_LIMIT_S / 3

# The exporter answers within milliseconds, so it has nothing to finish that takes longer.
_EXPORTER_GRACE_S: Final = 2.0

# The exporter is forked when the first worker is ready: on one core its imports would take half
# the time away from that worker's. An application that boots longer is watched while it does.
_HEAD_START_S: Final = 0.5

_TITLES: Final = {
    ReloadPhase.FIRST_BOOT: "booting",
    ReloadPhase.STEADY: "ready",
    ReloadPhase.TRYING: "reloading",
    ReloadPhase.ROLLING: "reloading",
}

log = logs.get_logger()


class Arbiter:
    """All processes from boot to exit. Every field belongs to the master's only thread."""

    def __init__(
        self,
        pair: RevisionPair,
        reload: Callable[[], Loaded],
        *,
        handover: Handover,
        notifier: Notifier,
        workers: Group,
        exporter: Group,
        revisions: Revisions,
        listening: Listening,
        switchboard: Switchboard,
        signals: SignalInbox,
        hooks: MasterHooks,
    ) -> None:
        """Nothing happens before `run`."""
        self._reload_settings = reload
        self._handover = handover
        self._notifier = notifier
        self._workers = workers
        self._exporter = exporter
        self._revisions = revisions
        self._listening = listening
        self._switchboard = switchboard
        self._signals = signals
        self._hooks = hooks
        self._shutdown = Shutdown()
        self._pairs = {0: pair}  # by revision of the workers
        self._changes = Changes()
        self._exit_code = 0
        self._title = ""
        self._upkeep = Upkeep(workers.fleet, workers.board, pair.settings, hooks.resized)
        self._target = -1  # as published
        self._beat_at = float("-inf")
        self._exporter_at = float("-inf")  # not before, unless a worker is ready

    def run(self) -> int:
        """Serve until told to stop; the exit code."""
        now = time.monotonic()
        self._exporter_at = now + _HEAD_START_S
        while True:
            self._advance(now)
            if self._finished(now):
                return self._exit_code
            deadline = self._next_deadline(now)
            talking = self._switchboard.wait(deadline - now)
            now = time.monotonic()
            self._board.heartbeat(now)
            self._beat_at = now + _BEAT_S
            if now - deadline > _STANDSTILL_S:
                self._workers.fleet.forgive(now)
                self._exporter.fleet.forgive(now)
            for signum in self._signals.take():
                self._on_signal(signum, now)
            for pid in talking:
                self._workers.hear(pid, now)
                self._exporter.hear(pid, now)
            self._reap(now)
            self._handover.hear(now, running=self._running)
            news = self._changes.news(self._workers.changed_code())
            # Workers that were sent away come back with the code of that time anyway.
            if news and self._running and not self._handover.retired:
                self._reload(now)
            if self._shutdown.tick(now, graceful_timeout_s=self._settings.graceful_timeout):
                self._enter_phase(now)

    @property
    def _running(self) -> bool:
        return self._shutdown.phase is Phase.RUNNING

    @property
    def _settings(self) -> Settings:
        return self._workers.desired.settings

    @property
    def _board(self) -> MasterRow:
        return self._workers.board.master

    @property
    def _upkept(self) -> bool:
        """Whether the fleet is what it is to be, and only has to be kept so."""
        settled = self._workers.fleet.plan.phase in (ReloadPhase.STEADY, ReloadPhase.ROLLING)
        return settled and self._shutdown.phase is Phase.RUNNING

    def _first_worker_boots(self, now: float) -> bool:
        """Whether the exporter still waits for the first worker."""
        booting = self._workers.fleet.plan.phase is ReloadPhase.FIRST_BOOT
        return booting and now < self._exporter_at

    # One turn

    def _advance(self, now: float) -> None:
        """Carry out what is due. New clients are turned away before the last worker leaves."""
        if self._upkept:
            self._upkeep.turn(now)
        worker_steps = self._workers.plan(now)
        exporter_steps = [] if self._first_worker_boots(now) else self._exporter.plan(now)
        self._listening.shut_all_but(self._workers.serving() | self._exporter.serving())
        for finished in self._workers.carry_out(worker_steps, now):
            self._reload_succeeded(finished.revision, now)
        self._exporter.carry_out(exporter_steps, now)
        self._handover.settle(now)
        self._notifier.tick(now, calm=self._handover.retired or not self._running)
        self._listening.close_all_but(self._workers.holding() | self._exporter.holding())
        self._show()

    def _next_deadline(self, now: float) -> float:
        instants = (
            self._beat_at,
            self._workers.fleet.next_deadline(now),
            self._exporter.fleet.next_deadline(now),
            self._exporter_at if self._first_worker_boots(now) else None,
            self._shutdown.deadline,
            self._notifier.deadline,
            self._upkeep.next_deadline() if self._upkept else None,
        )
        return min(instant for instant in instants if instant is not None)

    def _finished(self, now: float) -> bool:
        if self._shutdown.phase in (Phase.RUNNING, Phase.LINGERING):
            return False
        if len(self._workers.fleet.registry):
            return False
        if not self._exporter.fleet.stopping:
            # It has told the workers' end to whoever asked; now nobody is left to tell of.
            self._exporter.board.master.set_shutting_down()
            steps = self._exporter.stop(now, _EXPORTER_GRACE_S, quick=False)
            self._exporter.carry_out(steps, now)
        return len(self._exporter.fleet.registry) == 0

    def _show(self) -> None:
        if self._target != self._workers.fleet.target:
            self._target = self._workers.fleet.target
            self._board.set_target_workers(self._target)
            self._hooks.sized(self._target)
        reload = self._workers.fleet.plan.phase
        state = _TITLES[reload] if self._running else self._shutdown.phase.value
        if self._running and self._handover.retired:
            state = "retired"
        if state != self._title:
            self._title = state
            set_title("master", self._settings.proc_name or self._settings.app, state)

    # Children

    def _reap(self, now: float) -> None:
        for child in reap():
            self._handover.reaped(child)
            self._exporter.reaped(child, now)
            exited = self._workers.reaped(child, now)
            if exited is None:
                continue
            if exited.verdict is Verdict.GIVE_UP_REVISION:
                self._reload_failed(exited.worker.revision, now)
            elif exited.verdict is Verdict.END_SERVER:
                log.critical("no worker can load the application", app=self._settings.app)
                self._exit_code = BOOT_FAILED_EXIT_CODE
                self._stop(Event.QUIT, now)

    # Signals

    def _on_signal(self, signum: signal.Signals, now: float) -> None:
        running = self._running
        match signum:
            case signal.SIGCHLD:
                pass  # every turn reaps
            case signal.SIGTERM:
                log.info("stopping", signal=signum.name)
                self._stop(Event.TERM, now)
            case signal.SIGQUIT if self._handover.succeeded:
                # The last step of an upgrade: others serve, so nobody has to be cut off.
                log.info("stopping", signal=signum.name, detail="gracefully: the new master serves")
                self._stop(Event.TERM, now)
            case signal.SIGINT | signal.SIGQUIT:
                log.info("stopping", signal=signum.name)
                self._stop(Event.QUIT, now)
            case signal.SIGUSR1:
                logs.reopen()
                self._workers.signal_all(signum)
                self._exporter.signal_all(signum)
            case signal.SIGUSR2 if running:
                self._handover.upgrade()
            case signal.SIGWINCH:
                # A terminal tells the program in its foreground by it that its size has changed.
                if running and not in_foreground():
                    self._handover.retire()
                    # Nobody is left to try a new revision with: it waits for HUP.
                    self._notifier.reloaded(now)
            case signal.SIGHUP if running:
                self._handover.restore()
                self._reload(now)
            case signal.SIGTTIN if running:
                self._resize(+1)
            case signal.SIGTTOU if running:
                self._resize(-1)
            case _:
                log.info("signal ignored while stopping", signal=signum.name)

    def _resize(self, change: int) -> None:
        fleet = self._workers.fleet
        target = fleet.target + change
        bounds = fleet.bounds
        ranged = bounds.least < bounds.most
        if self._handover.retired and (ranged or change < 0):
            log.info("the number of workers stays", detail="HUP brings the workers back")
            return
        if target < 1:
            log.info("the last worker stays")
            return
        if target + 2 > self._workers.board.slots:
            log.warning("no room for more workers", workers=fleet.target)
            return
        if ranged and not bounds.least <= target <= bounds.most:
            log.info(
                "the number of workers stays",
                workers=fleet.target,
                detail=f"--workers {bounds.least}:{bounds.most} allows no other",
            )
            return
        self._upkeep.resize(target, "signal")

    # Stopping

    def _stop(self, event: Event, now: float) -> None:
        settings = self._settings
        if self._running:
            self._handover.leave()
        if self._shutdown.signal(
            event,
            now,
            # Nobody has to look elsewhere while others serve the same sockets.
            drain_delay_s=0.0 if self._handover.succeeded else settings.drain_delay,
            graceful_timeout_s=settings.graceful_timeout,
        ):
            self._enter_phase(now)

    def _enter_phase(self, now: float) -> None:
        # Readiness ends before anything else does, so that balancers look elsewhere in time.
        self._board.set_shutting_down()
        phase = self._shutdown.phase
        log.info(phase.value, workers=len(self._workers.fleet.registry))
        if phase is Phase.LINGERING:
            return
        grace_s = 0.0 if self._shutdown.deadline is None else self._shutdown.deadline - now
        steps = self._workers.stop(now, grace_s, quick=phase is not Phase.DRAINING)
        # First the way in, then the workers: what has queued up by now is still served.
        self._listening.shut_all_but(self._workers.serving() | self._exporter.serving())
        self._workers.carry_out(steps, now)

    # Reloading

    def _reload(self, now: float) -> None:
        fleet = self._workers.fleet
        self._notifier.reloading()
        before = self._pairs[fleet.plan.desired]
        try:
            # The file may wait for somebody who does not answer.
            with self._signals.interruptible():
                settings = self._reload_settings().settings
            pair = self._revisions.make(settings)
            workers = pair.workers
            self._hooks.reloading(settings, workers.app, workers.listeners)
        except StopRequestedError:  # noted as a signal as well, and acted upon as such
            self._restore(before)
            return
        except GthreadsrvError as error:
            self._reload_refused(before, str(error), error.traceback, now)
            return
        # The configuration file is somebody's program: whatever it does, the server goes on.
        except BaseException as error:  # noqa: BLE001
            self._reload_refused(before, f"{type(error).__name__}: {error}", format_exc(), now)
            return
        revision = self._workers.reload(pair.workers)
        log.info("reloading", revision=revision, workers=str(pair.settings.workers))
        in_use = {revision, fleet.plan.committed, *(worker.revision for worker in fleet.registry)}
        pairs = {**self._pairs, revision: pair}
        self._pairs = {number: kept for number, kept in pairs.items() if number in in_use}
        self._show_settings(pair)

    def _show_settings(self, pair: RevisionPair) -> None:
        """Publish them; a new exporter comes if anything has changed that it is made from."""
        self._revisions.publish(pair)
        self._upkeep.adopt(pair.settings)
        if self._exporter.desired.sources != pair.exporter.sources:
            self._exporter.reload(pair.exporter)
            self._handover.exporter_reloaded()

    def _reload_refused(self, before: RevisionPair, why: str, trace: str, now: float) -> None:
        self._board.reloaded(False, time.time())
        self._restore(before)
        self._notifier.reloaded(now)
        fields = {"exception": trace.rstrip("\n")} if trace else {}
        log.error("reload failed", detail=f"{why}; the old settings and workers go on", **fields)

    def _reload_failed(self, revision: int, now: float) -> None:
        """Its first worker could not boot, as the log already tells."""
        self._board.reloaded(False, time.time())
        self._restore(self._pairs[self._workers.fleet.plan.committed])
        self._notifier.reloaded(now)
        log.error("reload failed", revision=revision, detail="the old workers go on")

    def _restore(self, pair: RevisionPair) -> None:
        try:
            self._revisions.put_in_force(pair.settings)
        except GthreadsrvError as error:
            log.error(  # noqa: TRY400  the reason says it all
                "old settings only partly restored", detail=str(error)
            )
        for listener in (*pair.workers.listeners, *pair.exporter.listeners):
            listener.set_backlog(pair.settings.backlog)
        self._hooks.adopt(pair.settings, pair.workers.app, pair.workers.listeners)
        self._hooks.sized(self._workers.fleet.target)
        self._show_settings(pair)

    def _reload_succeeded(self, revision: int, now: float) -> None:
        self._board.reloaded(True, time.time())
        self._notifier.reloaded(now)
        log.info("reloaded", revision=revision)
