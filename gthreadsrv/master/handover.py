"""An upgrade from one master to the next, and what it means for workers, sockets and files.

USR2 starts a successor on the same listeners. Both masters accept from the same queues, so a
client is served by whichever is free, and neither shuts the way in or empties the queues when it
leaves. The metrics port has one answerer at a time: the old master's exporter until a worker of
the new one serves, then the new one's; should the new one end, the old one's again.

WINCH takes a master's workers away, HUP brings them back; so do the end of the successor, and
with it nobody is left without. Runs in the master's loop.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gthreadsrv import log as logs
from gthreadsrv.errors import GthreadsrvError
from gthreadsrv.master.exits import describe
from gthreadsrv.master.reexec import start_successor
from gthreadsrv.master.reload import Phase as ReloadPhase
from gthreadsrv.master.succession import Event, Standing

if TYPE_CHECKING:
    from gthreadsrv.hooks import MasterHooks
    from gthreadsrv.master.group import Group
    from gthreadsrv.master.listening import Listening
    from gthreadsrv.master.notify import Notifier
    from gthreadsrv.master.reap import ChildExited
    from gthreadsrv.master.revisions import Revisions
    from gthreadsrv.master.signals import SignalInbox
    from gthreadsrv.master.succession import Succession
    from gthreadsrv.started import Started

log = logs.get_logger()


class Handover:
    """This master's part in an upgrade, old or new. Owned by the master's only thread."""

    def __init__(
        self,
        started: Started,
        succession: Succession,
        *,
        workers: Group,
        exporter: Group,
        revisions: Revisions,
        listening: Listening,
        notifier: Notifier,
        signals: SignalInbox,
        hooks: MasterHooks,
    ) -> None:
        """A master with a predecessor leaves the metrics port to it at first."""
        self._started = started
        self._succession = succession
        self._workers = workers
        self._exporter = exporter
        self._revisions = revisions
        self._listening = listening
        self._notifier = notifier
        self._signals = signals
        self._hooks = hooks
        self._said_ready = False
        self._yielding = False
        self._successor = 0  # its pid until it is reaped
        self._successor_served = False
        self._stand()

    @property
    def retired(self) -> bool:
        """Whether WINCH has taken the workers away; nothing else makes none of them wanted."""
        return self._workers.fleet.target == 0

    @property
    def succeeded(self) -> bool:
        """Whether a successor serves, so that this master may leave at any time."""
        return self._succession.standing is Standing.SUCCEEDED

    # Orders

    def upgrade(self) -> None:
        """USR2: start a successor."""
        if os.getpid() == 1:
            log.warning(
                "no upgrade as process 1",
                detail="the container ends with it; send HUP, or replace the container",
            )
            return
        if self._succession.standing is not Standing.ALONE:
            log.warning(
                "no upgrade during an upgrade",
                other_pid=self._succession.other,
                detail="end one of the two masters first",
            )
            return
        self._share(True)
        try:
            pid, link = start_successor(
                self._started,
                self._listening.all_open(),
                self._revisions.turn + 1,
                self._signals,
                self._hooks.executing,
            )
        except OSError as error:
            self._share(False)
            log.error("upgrade failed", reason=error.strerror)  # noqa: TRY400  says it all
            return
        self._succession.forked(pid, link)
        self._successor, self._successor_served = pid, False
        self._stand()
        log.info("upgrading", new_pid=pid)

    def retire(self) -> None:
        """WINCH: take the workers away, gracefully, and keep the master."""
        if self.retired:
            return
        before = self._workers.fleet.target
        self._workers.fleet.resize(0)
        self._hooks.resized(0, before)
        if self._succession.shares_sockets:
            log.info("workers retired", detail="HUP brings them back")
        else:
            log.warning("workers retired", detail="nobody serves; clients wait until HUP")

    def restore(self) -> None:
        """Bring the workers back that `retire` has taken away."""
        if self.retired:
            wanted = self._workers.desired.least
            self._workers.fleet.resize(wanted)
            self._hooks.resized(wanted, 0)
            log.info("workers called back", workers=self._workers.fleet.target)

    def leave(self) -> None:
        """This master begins to stop: whoever goes on is told, and the service manager."""
        if self._succession.has_successor:
            self._notifier.resign(self._succession.other)
            self._succession.say(Event.LEAVING)
        else:
            self._notifier.stopping()

    # What happens

    def hear(self, now: float, *, running: bool) -> None:
        """Listen to the other master."""
        for event in self._succession.hear():
            self._stand()
            match event:
                case Event.READY:
                    self._successor_served = True
                    log.info(
                        "upgrade ready",
                        new_pid=self._succession.other,
                        detail="both masters serve; WINCH and QUIT retire this one",
                    )
                    self._yielding = True
                case Event.YIELDED:
                    log.info("metrics port taken over", old_pid=self._succession.other)
                case Event.LEAVING:
                    self._notifier.take_over(now)
                case Event.GONE:
                    self._other_gone(now, running=running)

    def settle(self, now: float) -> None:
        """Tell what has become true by what was just carried out."""
        serves = self._workers.fleet.plan.phase is not ReloadPhase.FIRST_BOOT
        if serves and not self._said_ready:
            self._said_ready = True
            self._notifier.ready(now)
            # A successor that boots beside us has not asked.
            if not self._succession.has_successor:
                self._succession.say(Event.READY)
        if self._yielding and not self._exporter.fleet.registry.active():
            self._yielding = False
            self._succession.say(Event.YIELDED)

    def reaped(self, child: ChildExited) -> None:
        """A child is gone; if it was the successor, how. The end of its line says the rest."""
        if child.pid != self._successor:
            return
        self._successor = 0
        about = {"new_pid": child.pid, "status": describe(child.status)}
        if self._successor_served:
            log.warning("new master has left", **about)
        else:
            log.error("upgrade failed", detail="the new master ended; this one goes on", **about)

    def exporter_reloaded(self) -> None:
        """A new revision of the exporter asks for its number of processes."""
        self._stand()

    def _other_gone(self, now: float, *, running: bool) -> None:
        self._yielding = False
        if self._revisions.heir:
            self._notifier.take_over(now)
            log.info("old master has left", old_pid=self._succession.other)
            try:
                self._revisions.succeed(self._succession.other)
            except GthreadsrvError as error:
                log.error("pid file not taken over", reason=str(error))  # noqa: TRY400
        elif running:
            # A successor that ended has left nobody else to serve.
            self.restore()

    def _stand(self) -> None:
        """Do what the standing asks for."""
        self._share(self._succession.shares_sockets)
        fleet = self._exporter.fleet
        wanted = self._exporter.desired.least if self._succession.answers_metrics else 0
        if not fleet.stopping and fleet.target != wanted:
            fleet.resize(wanted)

    def _share(self, shared: bool) -> None:
        self._listening.shared = shared
        for group in (self._workers, self._exporter):
            group.board.master.set_shared_queues(shared)
