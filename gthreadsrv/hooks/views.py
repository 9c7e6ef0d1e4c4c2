"""What hooks are given: the server, a worker, and the application, by gunicorn's attributes.

Plain records, kept up to date by `MasterHooks` and `WorkerHooks`. A worker's view is made in the
master before the fork; each process then has its own.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from gthreadsrv.hooks.cfg import Cfg
from gthreadsrv.hooks.hooklog import HookLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed.wsgi import WSGIApplication

    from gthreadsrv.net.listeners import Listener
    from gthreadsrv.settings import Settings


class App:
    """`server.app`: the application of one revision, loaded when it is first asked for."""

    def __init__(self, load: Callable[[], WSGIApplication]) -> None:
        self._load = load
        self.callable: WSGIApplication | None = None
        """What is served; a hook may put something around it."""

    def wsgi(self) -> WSGIApplication:
        """The application; AppLoadError when it cannot be loaded."""
        if self.callable is None:
            self.callable = self._load()
        return self.callable


class Server:
    """The master, as hooks see it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.num_workers = 0
        self.WORKERS: dict[int, Worker] = {}
        self.LISTENERS: list[Listener] = []
        self.worker_age = 0
        self.cfg: Cfg
        self.log: HookLog
        self.app: App
        self.address: list[tuple[str, int] | str | int]
        self.proc_name: str
        self.timeout: int | float

    def adopt(self, settings: Settings, app: App) -> None:
        """These are in force from now on."""
        self.cfg = Cfg(settings)
        self.log = HookLog(self.cfg)
        self.app = app
        self.address = self.cfg.address
        self.proc_name = settings.proc_name or settings.app
        self.timeout = self.cfg.timeout


class Worker:
    """One worker; in its own process it is kept up to date."""

    def __init__(
        self, server: Server, settings: Settings, app: App, sockets: Sequence[Any]
    ) -> None:
        self.age = server.worker_age
        self.pid: int | str = "[booting]"
        self.ppid = server.pid
        self.cfg = Cfg(settings)
        self.log = HookLog(self.cfg)
        self.app = app
        self.wsgi: WSGIApplication | None = None
        """What is served, from `post_worker_init` on."""
        self.sockets = list(sockets)
        self.timeout = self.cfg.timeout / 2
        self.booted = False
        self.nr = 0
        """Requests so far; counted while there are hooks for requests."""
        self.tmp = _Tmp()
        self.leave: Callable[[], None] | None = None
        """What makes the worker leave; set once it serves."""
        self._alive = True

    @property
    def alive(self) -> bool:
        """Whether it goes on serving; a hook that sets it to False has the worker replaced."""
        return self._alive

    @alive.setter
    def alive(self, value: bool) -> None:
        was, self._alive = self._alive, bool(value)
        if was and not value and self.leave is not None:
            self.leave()

    def notify(self) -> None:
        """Do nothing: heartbeats are the server's own."""

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"


class _Tmp:
    """`worker.tmp`: the file of gunicorn's heartbeats, which there is not."""

    def notify(self) -> None:
        """Do nothing."""

    def last_update(self) -> float:
        """Now."""
        return time.monotonic()

    def fileno(self) -> int:
        """No descriptor."""
        return -1

    def close(self) -> None:
        """Do nothing."""
