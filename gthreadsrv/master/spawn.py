"""Fork one child, and make sure that it never comes back into the master's code.

Runs in the master; `_live` onwards in the child. The child ends the way a program does
(non-daemon threads joined, atexit handlers run, streams flushed), so that what the application
registered there works, but without unwinding the stack it inherited: the `finally` blocks up
there are the master's. Not here: what the child does.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from gthreadsrv import log as logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from gthreadsrv.master.signals import SignalInbox

FAILED_EXIT_CODE = 1


def spawn(run: Callable[[], int], signals: SignalInbox) -> int:
    """Fork a child that calls `run` and exits with what it returns; gives the pid.

    OSError when the kernel refuses.
    """
    # What is still buffered would be written twice.
    _flush()
    with signals.held_back():
        pid = os.fork()
        if pid == 0:
            _live(run, signals)
    return pid


def _live(run: Callable[[], int], signals: SignalInbox) -> NoReturn:
    code = FAILED_EXIT_CODE
    try:
        signals.reset_in_child()
        code = _exit_code(run)
        # What the interpreter does at its end: the first joins non-daemon threads and stops those
        # of executors. multiprocessing ends its forked children in the same way.
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
        atexit._run_exitfuncs()  # noqa: SLF001
        _flush()
    finally:
        os._exit(code)


def _exit_code(run: Callable[[], int]) -> int:
    try:
        return run()
    except SystemExit as exit_:
        # The interpreter's own reading of sys.exit's argument.
        if exit_.code is None:
            return 0
        return exit_.code if isinstance(exit_.code, int) else FAILED_EXIT_CODE
    except BaseException:  # noqa: BLE001  the child's outermost frame: nothing may pass it
        logs.get_logger().critical("process failed", exc_info=True)
        return FAILED_EXIT_CODE


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # Absent in a daemon, closed by an application, or a pipe whose reader has left.
        with suppress(AttributeError, ValueError, OSError):
            stream.flush()
