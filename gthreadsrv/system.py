"""The system's own calls, by their own names: a library of greenlets takes their place.

gevent and eventlet replace what waits in the standard library's modules, at the worker's wish, or
at that of a configuration file or an application. The master, and what of the worker must not wait
in the library's event loop, go on with what is here. Imported before anything of the user's runs.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from select import POLLIN
from select import poll as system_poll
from socket import socket as plain_socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["POLLIN", "give_back", "keep", "plain_socket", "replaced_by", "system_poll"]

if sys.platform == "linux":
    system_epoll = select.epoll

_LIBRARIES: Final = frozenset({"gevent", "eventlet"})

_OWN: Final[dict[ModuleType, dict[str, object]]] = {
    module: dict(vars(module)) for module in (os, signal)
}
_theirs: Final[dict[tuple[ModuleType, str], object]] = {}


def replaced_by() -> str:
    """Return which library has made threads greenlets in this process, or an empty text."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return ""


def keep() -> None:
    """Put the system's own back into `os` and `signal`.  A master, whatever was executed in it.

    It forks, hears of its children's ends and reads its signals without a loop.
    """
    for module, own in _OWN.items():
        for name, value in own.items():
            now = getattr(module, name, value)
            library = str(getattr(now, "__module__", "")).partition(".")[0]
            if now is not value and library in _LIBRARIES:
                _theirs[module, name] = now
                setattr(module, name, value)


def give_back() -> None:
    """Undo `keep`, in a child whose loop runs."""
    for (module, name), value in _theirs.items():
        setattr(module, name, value)
