"""The server's own log and its access log, one line a write, in JSON or for a terminal."""

from gthreadsrv.log.setup import (
    access_log,
    bind_process,
    check,
    close_access_log,
    configure,
    get_logger,
    reopen,
)

__all__ = [
    "access_log",
    "bind_process",
    "check",
    "close_access_log",
    "configure",
    "get_logger",
    "reopen",
]
