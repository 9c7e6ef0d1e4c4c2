"""The hooks that run in the master, and what it prepares for those of its workers.

Owned by the master's only thread. Signals are taken back after each hook, since it may have set
handlers of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gthreadsrv.errors import StopRequestedError
from gthreadsrv.hooks.calling import HookError, call, report, tell
from gthreadsrv.hooks.views import App, Server, Worker
from gthreadsrv.hooks.worker import WorkerHooks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import Protocol

    from gthreadsrv.net.listeners import Listener
    from gthreadsrv.settings import Settings

    class Signals(Protocol):
        """What is needed of the master's signals."""

        def rearm(self) -> None:
            """Take the signals back."""

        def interruptible(self) -> AbstractContextManager[None]:
            """Within it a stop raises."""


class MasterHooks:
    """Calls the hooks of the settings in force."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self.server = Server()
        self._hooks: dict[str, Callable[..., object]] = {}

    # In the order of a server's life

    def adopt(self, settings: Settings, app: App, listeners: Sequence[Listener] = ()) -> None:
        """Go by these settings from now on."""
        self._hooks = dict(settings.hooks)
        self.server.adopt(settings, app)
        self.server.LISTENERS = list(listeners)

    def starting(self, settings: Settings, app: App) -> None:
        """Before anything listens; HookError, or StopRequestedError while it waits."""
        self.adopt(settings, app)
        self.resized(settings.least_workers, None)
        with self._signals.interruptible():
            call(self._hooks, "on_starting", self.server)

    def ready(self) -> None:
        """The listeners are open, and nobody serves yet; as `starting`."""
        with self._signals.interruptible():
            call(self._hooks, "when_ready", self.server)

    def reloading(self, settings: Settings, app: App, listeners: Sequence[Listener]) -> None:
        """New settings are about to be rolled out; HookError gives them up; as `starting`."""
        self.adopt(settings, app, listeners)
        before = self.server.num_workers
        self.resized(min(max(before, settings.least_workers), settings.most_workers), before)
        with self._signals.interruptible():
            call(self._hooks, "on_reload", self.server)

    def resized(self, new: int, old: int | None) -> None:
        """So many workers are wanted."""
        self.server.num_workers = new
        self._tell("nworkers_changed", self.server, new, old)

    def sized(self, now: int) -> None:
        """So many workers are wanted in the end, whatever a reload has announced."""
        if now != self.server.num_workers:
            self.resized(now, self.server.num_workers)

    def executing(self) -> None:
        """In the child that is about to become the next master."""
        tell(self._hooks, "pre_exec", self.server)

    def exiting(self) -> None:
        """All workers are gone."""
        self._tell("on_exit", self.server)

    # Workers

    def before_fork(
        self, settings: Settings, app: App, sockets: Sequence[Listener]
    ) -> WorkerHooks | None:
        """A worker's hooks and its view; None when `pre_fork` forbids it by an exception.

        Or when the server is told to stop meanwhile.
        """
        self.server.worker_age += 1
        worker = Worker(self.server, settings, app, sockets)
        if "pre_fork" in self._hooks:
            try:
                with self._signals.interruptible():
                    call(self._hooks, "pre_fork", self.server, worker)
            except HookError as error:
                report("pre_fork", error)
                return None
            except StopRequestedError:  # noted as a signal as well, and acted upon as such
                return None
        return WorkerHooks(settings.hooks, self.server, worker)

    def forked(self, hooks: WorkerHooks, pid: int) -> None:
        """The worker has a process."""
        hooks.worker.pid = pid
        self.server.WORKERS[pid] = hooks.worker

    def reaped(self, pid: int) -> None:
        """The worker's process is gone."""
        worker = self.server.WORKERS.pop(pid, None)
        if worker is not None:
            self._tell("child_exit", self.server, worker)

    def _tell(self, name: str, *arguments: object) -> None:
        tell(self._hooks, name, *arguments)
        self._rearm(name)

    def _rearm(self, name: str) -> None:
        if name in self._hooks:
            self._signals.rearm()
