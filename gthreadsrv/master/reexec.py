"""Start a successor: the same command, from where this one was started, with its sockets.

Runs in the master; `_execute` in the child, which is a copy of the master until exec. The program
is looked for anew, so whatever is installed under its name now is what starts.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

from gthreadsrv import log as logs
from gthreadsrv.master import inheritance
from gthreadsrv.master.signals import LATER
from gthreadsrv.master.spawn import FAILED_EXIT_CODE, spawn
from gthreadsrv.started import UPGRADE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gthreadsrv.master.listening import Key
    from gthreadsrv.master.signals import SignalInbox
    from gthreadsrv.net.listeners import Listener
    from gthreadsrv.started import Started

log = logs.get_logger()


def start_successor(
    started: Started,
    listeners: Mapping[Key, Listener],
    turn: int,
    signals: SignalInbox,
    before: Callable[[], None],
) -> tuple[int, socket.socket]:
    """The successor's pid, and our end of the line to it.  OSError when it cannot be forked.

    `before` is called in the child before it becomes another program.
    """
    ours, theirs = socket.socketpair()
    try:
        told, fds = inheritance.write(os.getpid(), theirs, listeners, turn)
        pid = spawn(lambda: _execute(started, told, fds, before), signals)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return pid, ours


def _execute(started: Started, told: str, fds: Sequence[int], before: Callable[[], None]) -> int:
    before()
    environ = {**started.environ, UPGRADE: told}
    # Who is watched is told anew: the watchdog was for the old process.
    environ.pop("WATCHDOG_PID", None)
    passed = 0
    if environ.get("LISTEN_PID") == str(os.getppid()):
        environ["LISTEN_PID"] = str(os.getpid())
        passed = int(environ["LISTEN_FDS"])
    try:
        os.chdir(started.cwd)
        for fd in (*fds, *range(3, 3 + passed)):
            os.set_inheritable(fd, True)
        # Without handlers of its own it would end by them, or stop: they wait until it takes them.
        signal.pthread_sigmask(signal.SIG_BLOCK, LATER)
        os.execve(started.argv[0], started.argv, environ)  # noqa: S606  no shell: that is the point
    except OSError as error:
        log.error(  # noqa: TRY400  the reason says it all
            "successor cannot be executed",
            program=started.argv[0],
            directory=started.cwd,
            reason=error.strerror,
        )
    return FAILED_EXIT_CODE
