"""Sockets that a service manager has opened before it started us: sd_listen_fds(3).

They replace the addresses of the settings: `fd://N` for each, and the one called `metrics` is for
the metrics. Runs in the process that becomes the master. Not here: listening on them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from gthreadsrv.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

# SD_LISTEN_FDS_START: the first descriptor passed; the others follow it.
_FIRST_FD: Final = 3
METRICS_NAME: Final = "metrics"


class Activated(NamedTuple):
    """What was passed, as bind addresses."""

    bind: tuple[str, ...] = ()
    metrics_bind: str | None = None


def activated(environ: Mapping[str, str], pid: int) -> Activated:
    """The sockets passed to the process `pid`; none when they are another's, or there are none.

    Raises ConfigError when the variables make no sense.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return Activated()
    text = environ.get("LISTEN_FDS", "")
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"LISTEN_FDS: {text!r} is not a number of sockets; unset LISTEN_PID too")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    bind: list[str] = []
    metrics: list[str] = []
    for index in range(int(text)):
        fd = _FIRST_FD + index
        try:
            # They came without it, or would not be here; no program of the application's needs
            # them, and one that goes on running would keep them open.
            os.set_inheritable(fd, False)
        except OSError:
            raise ConfigError(
                f"LISTEN_FDS: says {text}, but file descriptor {fd} is not open; "
                "whatever started this server has to keep it open"
            ) from None
        named_metrics = index < len(names) and names[index] == METRICS_NAME
        (metrics if named_metrics else bind).append(f"fd://{fd}")
    if len(metrics) > 1:
        raise ConfigError(
            f"LISTEN_FDNAMES: {len(metrics)} sockets are called {METRICS_NAME}; one can serve the "
            "metrics, give the others another name (FileDescriptorName=)"
        )
    return Activated(tuple(bind), metrics[0] if metrics else None)
