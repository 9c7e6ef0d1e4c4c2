"""Worker classes `gevent` and `eventlet`: the pool's threads become greenlets.

Both libraries replace what waits in the standard library by what lets other greenlets run.
From then on `threading.Thread` is a greenlet and `threading.Lock` a greenlet's, so the pool,
the HTTP code, the drain and the metrics are those of threads. Three things are not, and are here:

* the poller's epoll waits in the library's hub, the watchdog's too: a hub that nobody lets run
  is a heartbeat that stays away;
* a request past its time gets its exception thrown by the hub, and its stack is the greenlet's;
* which requests run at once is the scheduler's: the lead is handed on before every request.

All greenlets share the process's one thread. What computes, or waits in C, holds up all of them.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from typing import TYPE_CHECKING, Any, Final, Protocol

from gthreadsrv import log as logs
from gthreadsrv import tracing
from gthreadsrv.errors import ConfigError
from gthreadsrv.system import give_back, replaced_by
from gthreadsrv.worker import poller
from gthreadsrv.worker.thread import PoolThread

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from gthreadsrv.settings import Settings
    from gthreadsrv.worker.connection import Connection
    from gthreadsrv.worker.intake import Intake
    from gthreadsrv.worker.pool import Pool
    from gthreadsrv.worker.service import Service

__all__ = ["GreenThread", "Hub", "adopt", "become", "check", "prepare"]


class Hub(Protocol):
    """What is needed of a library and its event loop.  Made once in a process or its parent."""

    def enter(self) -> None:
        """Take on this process, which may be the child of one in which the hub was made."""

    def wait(self, fd: int, timeout_s: float | None) -> None:
        """Let others run until ``fd`` is readable, or that long; None is for ever."""

    def soon(self, call: Callable[[], None]) -> None:
        """Have the hub call ``call`` in its next round."""

    def turn(self) -> None:
        """Let others run, also those that wait for a descriptor."""

    def current(self) -> Any:
        """Return the greenlet that runs."""


class _ElapsedError(Exception):
    """The end of a wait."""


class _Gevent:
    def __init__(self) -> None:
        import gevent
        from gevent import monkey

        with warnings.catch_warnings():
            # Where others have patched a part already, all of it is what they ask for by the class.
            warnings.filterwarnings("ignore", "Patching more than once")
            monkey.patch_all()
        from gevent.socket import wait_read

        self._reinit = gevent.reinit
        self._wait_read = wait_read
        self._get_hub = gevent.get_hub
        self._idle = gevent.idle
        self.current = gevent.getcurrent

    def enter(self) -> None:
        self._reinit()
        # By itself gevent listens for the ends of children after its first fork: a child that was
        # quicker was seen to be waited for without end (gevent 26.9, one process in ten).
        self._get_hub().loop.install_sigchld()

    def wait(self, fd: int, timeout_s: float | None) -> None:
        try:
            self._wait_read(fd, timeout_s, _ElapsedError())
        except _ElapsedError:
            return

    def soon(self, call: Callable[[], None]) -> None:
        self._get_hub().loop.run_callback(call)

    def turn(self) -> None:
        # After a sleep of 0 gevent looks at descriptors once in fifty times only.
        self._idle(self._get_hub().loop.MAXPRI)


class _Eventlet:
    def __init__(self) -> None:
        with warnings.catch_warnings():
            # Its advice to use something else is the README's as well, and no line for a log.
            warnings.simplefilter("ignore")
            import eventlet
            from eventlet import hubs

        eventlet.monkey_patch()
        self._hubs = hubs
        self._sleep = eventlet.sleep
        self.current = eventlet.getcurrent

    def enter(self) -> None:
        self._hubs.use_hub()

    def wait(self, fd: int, timeout_s: float | None) -> None:
        try:
            self._hubs.trampoline(fd, read=True, timeout=timeout_s, timeout_exc=_ElapsedError)
        except _ElapsedError:
            return

    def soon(self, call: Callable[[], None]) -> None:
        self._hubs.get_hub().schedule_call_global(0, call)

    def turn(self) -> None:
        self._sleep(0)


_HUBS: Final[dict[str, Callable[[], Hub]]] = {"gevent": _Gevent, "eventlet": _Eventlet}

_made: Final[dict[str, Hub]] = {}


def check(settings: Settings) -> None:
    """Say what stands in the way of greenlets.  Imports nothing.  Raises ConfigError."""
    name, there = settings.worker_class, replaced_by()
    if there in _made and there != name:
        raise ConfigError(
            f"worker_class: the application was preloaded for {there}; "
            "restart the server to change it"
        )
    if name not in _HUBS:
        return
    if there and there != name:
        raise ConfigError(
            f"worker_class: {name}, but {there} has replaced threads in this process already; say "
            f"{there}, or look for its monkey patching in the configuration file"
        )
    if sys.platform != "linux":
        raise ConfigError(f"worker_class: {name} needs Linux; leave worker_class out")
    if importlib.util.find_spec(name) is None:
        raise ConfigError(
            f"worker_class: {name} is not installed; say pip install 'gthreadsrv[{name}]'"
        )


def prepare(worker_class: str) -> None:
    """Have the library replace what waits, if it is one's class.  Before the application's import.

    In a master that preloads: its children can be of no other class then.  Raises ConfigError.
    """
    if worker_class not in _HUBS or worker_class in _made:
        return
    try:
        _made[worker_class] = _HUBS[worker_class]()
    except ImportError as error:
        raise ConfigError(
            f"worker_class: {worker_class} cannot be imported: {error}; install it anew"
        ) from None


def become(worker_class: str) -> Hub | None:
    """Make this process one of greenlets, if that is its class."""
    prepare(worker_class)
    hub = _made.get(worker_class)
    if hub is not None:
        give_back()
        hub.enter()
        poller.wait_in(hub.wait)
        tracing.renew()
    return hub


def adopt() -> Hub | None:
    """Make this process one of greenlets where the user's code has replaced its threads already.

    Threads that are greenlets need a loop, whatever class was asked for.
    """
    library = replaced_by()
    if library:
        logs.get_logger().warning(
            "threads are greenlets",
            detail=f"the application, or what comes before it, has replaced them by {library}'s",
            advice=f"say --worker-class {library}, or leave the monkey patching out",
        )
    return become(library)


class GreenThread(PoolThread):
    """A pool thread that is a greenlet."""

    __slots__ = ("_greenlet", "_hub")

    def __init__(
        self, name: str, pool: Pool, intake: Intake, service: Service, *, hub: Hub
    ) -> None:
        super().__init__(name, pool, intake, service)
        self._hub = hub
        self._greenlet: Any = None

    def frame(self) -> FrameType | None:
        """Return where the greenlet waits."""
        found: FrameType | None = self._greenlet and self._greenlet.gr_frame
        return found

    def interrupt(self, since: float) -> None:
        """See `PoolThread.interrupt`.  Reaches what waits in the hub; nothing else lets us run."""
        interruption, greenlet = self.service.interruption, self._greenlet
        self._hub.soon(lambda: interruption.throw(greenlet.throw, since))

    def _let_others_run(self) -> None:
        # Who sends a pipeline would have the hub for as long as it is.
        self._hub.turn()

    def _serve(self, connection: Connection, now: float) -> bool:
        leads = super()._serve(connection, now)
        if self._pool.ready:
            # The next request of a pipeline again, of which the only free greenlet has made itself
            # the leader.
            self._let_others_run()
        return leads

    def _run(self) -> None:
        self._greenlet = self._hub.current()
        super()._run()
