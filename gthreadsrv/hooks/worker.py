"""The hooks that run in a worker.

Made in the master before the fork, used by the child. Those of requests are called by the
worker's service; here is the rest of its life.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from typing import TYPE_CHECKING

from gthreadsrv.hooks.calling import call, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType
    from typing import Any

    from _typeshed.wsgi import WSGIApplication

    from gthreadsrv.hooks.views import Server, Worker


class WorkerHooks:
    """One worker's hooks."""

    def __init__(
        self, hooks: Mapping[str, Callable[..., Any]], server: Server, worker: Worker
    ) -> None:
        self._hooks = hooks
        self._server = server
        self.worker = worker
        self.pre_request = hooks.get("pre_request")
        self.post_request = hooks.get("post_request")

    @property
    def of_requests(self) -> bool:
        """Whether each request has something to call."""
        return self.pre_request is not None or self.post_request is not None

    def forked(self) -> None:
        """First thing in the child; HookError ends the boot."""
        self.worker.pid = os.getpid()
        if "worker_abort" in self._hooks:
            faulthandler.disable()
            signal.signal(signal.SIGABRT, self._abort)
            # After ours, so that stacks are written even when Python stands still.
            faulthandler.enable(file=sys.__stderr__ or 2, all_threads=True)
        call(self._hooks, "post_fork", self._server, self.worker)

    def loaded(self, app: WSGIApplication) -> WSGIApplication:
        """The application is there; what is to be served in its place. HookError ends the boot."""
        self.worker.wsgi = app
        self.worker.booted = True
        call(self._hooks, "post_worker_init", self.worker)
        return self.worker.wsgi

    def serving(self) -> None:
        """From now on a hook may have the worker leave, as by TERM."""
        self.worker.leave = lambda: os.kill(os.getpid(), signal.SIGTERM)

    def interrupted(self) -> None:
        """Told to leave at once."""
        self.worker.leave = None
        self.worker.alive = False
        tell(self._hooks, "worker_int", self.worker)

    def exiting(self) -> None:
        """Last thing in the child."""
        tell(self._hooks, "worker_exit", self._server, self.worker)

    def _abort(self, number: int, _frame: FrameType | None) -> None:
        # Children that the application forks inherit the handler.
        if self.worker.pid == os.getpid():
            tell(self._hooks, "worker_abort", self.worker)
        # The master is to see what ended it.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
