"""How this process was started: what it takes to start the same again, and what came with it.

Read once by the command line, before anything else. Variables that speak to this process alone
are taken out of the environment there: a child of the application that found NOTIFY_SOCKET could
speak to the service manager in the server's name, and one that found LISTEN_FDS would take the
server's sockets for its own. Nothing here opens or executes anything.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

# What a master tells the one that it starts to succeed it; never set by people.
UPGRADE: Final = "GTHREADSRV_UPGRADE"

# sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3)
LISTEN_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
NOTIFY_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Started(NamedTuple):
    """The command line, the environment and the directory that this process was started with."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]  # as it was, but for UPGRADE
    cwd: str
    told: str = ""  # by a predecessor: the value of UPGRADE


def take_note(environ: MutableMapping[str, str] = os.environ) -> Started:
    """Note it all, and take out of `environ` what is meant for this process alone."""
    told = environ.pop(UPGRADE, "")
    before = dict(environ)
    for name in (*LISTEN_VARIABLES, *NOTIFY_VARIABLES):
        environ.pop(name, None)
    # By orig_argv, since sys.argv has lost -m and the interpreter's own options; by sys.executable,
    # which is a full path, since the name alone may not be found from PATH (a virtual environment).
    argv = (sys.executable, *sys.orig_argv[1:])
    return Started(argv, before, working_directory(before), told)


def working_directory(environ: Mapping[str, str]) -> str:
    """Where we are, by the name people use: a reload then follows a link that has moved."""
    named, real = environ.get("PWD", ""), os.getcwd()
    try:
        return named if os.path.isabs(named) and os.path.samefile(named, real) else real
    except OSError:  # a stale PWD
        return real
