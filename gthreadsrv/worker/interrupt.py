"""An exception raised in another thread, and taken back when it comes too late.

CPython delivers it when that thread next runs Python code (PyThreadState_SetAsyncExc).  ctypes
is imported when it is first needed: most workers never interrupt anybody.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from time import sleep
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Interruption", "RequestTimeoutError", "raise_in", "take_back"]

# From the application's callable to its iterable it is microseconds.
_TRIES: Final = 50
_PAUSE_S: Final = 0.0002

# Modules that take and free locks in functions written in Python: an exception between the two
# steps leaves the lock taken for good, and with it whoever logs, or asks the queue, next. Waiting
# is safe, it takes back what it must.
_LOCKING: Final = frozenset({logging.__file__, queue.__file__, threading.__file__})


class RequestTimeoutError(BaseException):
    """Raised in the application when its request is past `--timeout`.

    Not an Exception: what an application does about its own errors is not meant for this.
    """


def raise_in(ident: int) -> bool:
    """Have `RequestTimeoutError` raised in a thread; False when that cannot be done.

    Not in a worker under a debugger or a coverage tool: a thread with a trace function that
    meets such an exception was seen to spin for ever (CPython 3.11).
    """
    if sys.gettrace() is not None:
        return False
    import ctypes

    kind = ctypes.py_object(RequestTimeoutError)
    return bool(ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), kind) == 1)


def take_back() -> bool:
    """Make sure that none is on its way to the calling thread; False when one was.

    It is met on the way through this function: each call of another is a place for it.
    """
    if sys.gettrace() is not None:
        return True  # none has been sent, and this call alone starts the same spinning
    import ctypes

    try:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), None)
    except RequestTimeoutError:
        return False
    return True


class Interruption:
    """The interruption of a pool thread's request: sent by the watchdog, settled by the thread."""

    __slots__ = ("_homes", "_raised", "_sending", "counted", "inside_since", "landed", "since")

    def __init__(self, *homes: str) -> None:
        """``homes`` are the files whose code calls the application, and hands its result on."""
        self._homes = homes
        self.inside_since = 0.0
        """When the thread took on the request that is with the application; else 0."""
        self.since = 0.0
        """The same of the request that the watchdog has interrupted; else 0."""
        self._sending = False
        """Whether the watchdog may be about to interrupt."""
        self._raised = False
        """Whether it has."""
        self.landed = 0
        """How many were raised in the application."""
        self.counted = 0
        """Of those, what the watchdog has counted."""

    def send(self, ident: int, since: float) -> None:
        """Raise `RequestTimeoutError` in the thread.  The watchdog.

        Only in the application's request that began at ``since``: anywhere else it would break
        the server, or another request.  Nor between the application's callable and its iterable:
        raised there, it would take the place of a result that is to be closed.  (Some of that
        remains: the thread may go on between the look and the sending. None of 7,000 on CPython
        3.13, one of 4,000 where threads take turns every 10 us.)

        Announced before the look at `inside_since`; the thread leaves first and looks for an
        announcement then, so one of both sees the other.
        """
        self._sending = True
        self.since = since
        self._raised = False
        try:
            for _ in range(_TRIES):
                if self.inside_since != since:
                    return
                if not self._is_home(ident):
                    self._raised = raise_in(ident)
                    return
                sleep(_PAUSE_S)
        finally:
            self._sending = False

    def throw(self, throw: Callable[[type[BaseException]], object], since: float) -> None:
        """Raise it in a greenlet, by its ``throw``.  The hub, so that the greenlet waits.

        It may have gone on since this was asked for, and does not while this runs.  Where it
        waits is in the application or in a wire.
        """
        if self.inside_since == since:
            self.since = since
            self._raised = True
            throw(RequestTimeoutError)

    def settle(self) -> None:
        """Meet what has been announced, take it back, or note that it was met.  The thread.

        One that was sent and is not on its way any more was raised in the application, whatever
        that made of it.
        """
        try:
            # Not a lock: the exception may come in between its taking and the block that frees it.
            while self._sending:
                sleep(0.0005)
            met = take_back() and self._raised
        except RequestTimeoutError:
            # It came on the way here; there is at most one.
            met = False
        if met:
            self.landed += 1
        self.since = 0.0

    def _is_home(self, ident: int) -> bool:
        """Say whether the thread is at a place where no exception may come.

        In the code that calls the application, or between the taking of a lock and its freeing.
        In an exchange or a wire it may be interrupted: there the result is known, and is closed.
        """
        frame = sys._current_frames().get(ident)  # noqa: SLF001 - the only way
        if frame is None:
            return False
        code = frame.f_code
        return code.co_filename in self._homes or (
            code.co_filename in _LOCKING and code.co_name != "wait"
        )
