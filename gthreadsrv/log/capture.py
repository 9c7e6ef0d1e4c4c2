"""--capture-output: what a process prints goes to the error log's file.

The descriptors are changed, so programs that the application starts are captured too. Runs in
the master at configuration, and in every process when files are reopened.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from gthreadsrv.log.logfile import STANDARD

if TYPE_CHECKING:
    from gthreadsrv.log.logfile import LogFile

_STANDARD_FDS = (1, 2)


class _Capture:
    """What this process's standard output and error are; changed by its main thread."""

    def __init__(self) -> None:
        self.file: LogFile | None = None
        self.before: tuple[int, int] | None = None
        """Where they went before; kept to give them back."""


_state = _Capture()


def capture(file: LogFile | None) -> None:
    """Send standard output and error to `file`; None, or a log on standard error: as before."""
    state = _state
    state.file = file if file is not None and file.path != STANDARD else None
    if state.file is not None:
        state.before = state.before or (os.dup(1), os.dup(2))
        recapture()
    elif state.before is not None:
        _redirect(state.before)
        for fd in state.before:
            os.close(fd)
        state.before = None


def recapture() -> None:
    """Follow the file to its new self after log rotation."""
    if _state.file is not None:
        _redirect((_state.file.fd, _state.file.fd))


def _redirect(sources: tuple[int, int]) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.flush()
    for source, target in zip(sources, _STANDARD_FDS, strict=True):
        os.dup2(source, target)
