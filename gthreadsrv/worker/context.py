"""Everything a worker gets from the master, in one value.

Made by the master before the fork, used by the child alone afterwards. The exporter is run by
the same worker code with a context of its own: role, scoreboard, listener and application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gthreadsrv.worker.title import set_title

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Literal

    from _typeshed.wsgi import WSGIApplication

    from gthreadsrv.hooks import WorkerHooks
    from gthreadsrv.net.listeners import Listener
    from gthreadsrv.settings import Settings
    from gthreadsrv.worker.channel import WorkerChannel
    from gthreadsrv_metrics.scoreboard import Scoreboard


class WorkerContext(NamedTuple):
    """One worker process: who it is, what it serves, where it reports."""

    settings: Settings
    slot: int
    generation: int
    listeners: tuple[Listener, ...]
    board: Scoreboard
    channel: WorkerChannel
    app: WSGIApplication | None  # preloaded in the master; otherwise call `load`
    load: Callable[[], WSGIApplication]  # raises AppLoadError
    tls: ssl.SSLContext | None = None  # what the listeners speak; None: plain HTTP
    role: Literal["worker", "exporter"] = "worker"
    hooks: WorkerHooks | None = None  # the exporter has none

    def show_state(self, state: str) -> None:
        """Put a new state ("ready", "draining") into the process title."""
        slot = self.slot if self.role == "worker" else None
        set_title(self.role, self.settings.proc_name or self.settings.app, state, slot)
