"""What a child is kept from that the application forks while the worker serves.

Such a child starts with copies of everything: the worker's signal handlers and wake-up pipe, so
that a TERM meant for the child would be the worker's order to leave; the clients' sockets, so
that a connection the worker closes would stay open; the serving thread, so that a child which
came back from the application would answer a second time, and go on to serve.

Registered by the worker; runs in whichever thread forks.  Programs that are executed
(subprocess) are not concerned: all our descriptors close on exec.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from gthreadsrv import log as logs
from gthreadsrv.worker.watchdog import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gthreadsrv.worker.channel import WorkerChannel
    from gthreadsrv.worker.pool import Pool
    from gthreadsrv.worker.ports import Port
    from gthreadsrv.worker.watchdog import Watchdog

__all__ = ["leave_child", "let_go_in_children"]


def let_go_in_children(
    pool: Pool, ports: Iterable[Port], watchdog: Watchdog, channel: WorkerChannel
) -> None:
    """From now on a forked child has no part in this worker."""
    listeners = [port.sock for port in ports]
    masks: dict[int, set[int]] = {}

    def hold_signals() -> None:
        # One that comes before the handlers are reset would be taken for the worker's.
        masks[threading.get_ident()] = set(signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS))

    def release_signals() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(threading.get_ident()))

    def let_go() -> None:
        # No lock is taken here: another thread may have held it, and there is none any more.
        if not pool.forked:
            pool.forked = True
            pool.forked_by = threading.get_ident()
            watchdog.disarm()
            for connection in pool.connections.values():
                connection.sock.close()
            for sock in listeners:
                sock.close()
            pool.close()
            channel.close()
        release_signals()

    os.register_at_fork(before=hold_signals, after_in_parent=release_signals, after_in_child=let_go)


def leave_child(error: BaseException | None, forked_by: int) -> NoReturn:
    """End a forked child that has come back from the application's code.

    Greenlets, unlike threads, are all copied: those of other requests stop here.
    """
    while threading.get_ident() != forked_by:
        threading.Event().wait()
    code = 0
    if isinstance(error, SystemExit):
        # The interpreter's own reading of sys.exit's argument.
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        code = 1
        logs.get_logger().error("child of the application failed", exc_info=error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.flush()
    os._exit(code & 0xFF)
