"""An exception raised in another thread, and taken back when it comes too late.

CPython delivers it when that thread next runs Python code (PyThreadState_SetAsyncExc).  ctypes
is imported when it is first needed: most workers never interrupt anybody.
"""

from __future__ import annotations

import sys
import threading

__all__ = ["RequestTimeoutError", "raise_in", "take_back"]


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


def take_back() -> None:
    """Make sure that none is on its way to the calling thread."""
    if sys.gettrace() is not None:
        return  # none has been sent, and this call alone starts the same spinning
    import ctypes

    try:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), None)
    except RequestTimeoutError:
        # It came on the way here; there is at most one.
        return
