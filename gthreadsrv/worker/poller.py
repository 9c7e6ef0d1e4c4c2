"""Readiness of many descriptors: epoll on Linux, `selectors` elsewhere.

Level-triggered: what was not read is reported again, so no wake-up can be lost.  Only the
leader polls; any thread may add or remove.
"""

from __future__ import annotations

import os
import selectors
import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["READ", "WRITE", "Poller", "make_poller", "wait_in", "wait_writable"]

READ = 1
WRITE = 4

if sys.platform == "linux":
    from gthreadsrv.system import system_epoll

_hub_wait: list[Callable[[int, float | None], None]] = []


class Poller(Protocol):
    """Watches descriptors."""

    def add(self, fd: int, events: int) -> None:
        """Watch ``fd`` for ``events`` (READ, WRITE); replaces what was watched before."""

    def remove(self, fd: int) -> None:
        """Stop watching ``fd``; nothing happens when it was not watched."""

    def poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
        """Return (fd, events) pairs; None waits without end."""

    def close(self) -> None:
        """Give back the poller's own descriptor."""


class _EpollPoller:
    """epoll(7).  READ and WRITE are EPOLLIN and EPOLLOUT; hang-ups come as other bits."""

    __slots__ = ("_epoll", "close")

    def __init__(self) -> None:
        self._epoll = system_epoll()
        self.close = self._epoll.close

    def add(self, fd: int, events: int) -> None:
        try:
            self._epoll.register(fd, events)
        except FileExistsError:
            self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        try:
            self._epoll.unregister(fd)
        except (FileNotFoundError, OSError):
            # Not watched, or closed by its owner a moment ago.
            return

    def poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
        # The kernel rotates its ready list, so 64 at a time starve nobody.
        return self._epoll.poll(-1 if timeout_s is None else timeout_s, 64)


class _HubPoller(_EpollPoller):
    """An epoll that is waited for in an event loop, which lets others run meanwhile."""

    __slots__ = ("_closed", "_wait", "_waits")

    def __init__(self, wait: Callable[[int, float | None], None]) -> None:
        super().__init__()
        self._wait = wait
        self._waits = self._closed = False
        self.close = self._close

    def poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
        until = None if timeout_s is None else monotonic() + timeout_s
        while True:
            self._stand_still_if_closed()
            self._waits = True
            try:
                # Also when something is there already: whoever polls in a loop starves nobody.
                self._wait(self._epoll.fileno(), timeout_s)
            finally:
                self._waits = False
            self._stand_still_if_closed()
            found = self._epoll.poll(0, 64)
            if found:
                return found
            if until is not None:
                # A loop's own clock may be as late as its last round.
                timeout_s = until - monotonic()
                if timeout_s <= 0:
                    return []

    def _close(self) -> None:
        self._closed = True
        if not self._waits:
            self._epoll.close()
            return
        # In a child that the application forked, which has a copy of every greenlet: the loop
        # goes on watching the descriptor, and libev aborts over one that is not there.
        with system_epoll() as empty:
            os.dup2(empty.fileno(), self._epoll.fileno(), inheritable=False)

    def _stand_still_if_closed(self) -> None:
        while self._closed:
            threading.Event().wait()


class _SelectorsPoller:
    """The standard library's choice for this system (kqueue on macOS)."""

    __slots__ = ("_selector", "close")

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.close = self._selector.close

    def add(self, fd: int, events: int) -> None:
        wanted = _selector_events(events)
        try:
            self._selector.register(fd, wanted)
        except KeyError:
            self._selector.modify(fd, wanted)

    def remove(self, fd: int) -> None:
        try:
            self._selector.unregister(fd)
        except (KeyError, ValueError, OSError):
            return

    def poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
        return [
            (
                key.fd,
                (READ if mask & selectors.EVENT_READ else 0)
                | (WRITE if mask & selectors.EVENT_WRITE else 0),
            )
            for key, mask in self._selector.select(timeout_s)
        ]


def _selector_events(events: int) -> int:
    return (selectors.EVENT_READ if events & READ else 0) | (
        selectors.EVENT_WRITE if events & WRITE else 0
    )


def make_poller() -> Poller:
    """Return the best poller of this system and process."""
    if _hub_wait:
        return _HubPoller(_hub_wait[0])
    return _EpollPoller() if sys.platform == "linux" else _SelectorsPoller()


def wait_in(wait: Callable[[int, float | None], None]) -> None:
    """Have all pollers that this process makes from now on wait by ``wait(fd, timeout_s)``."""
    _hub_wait[:] = [wait]


def wait_writable(fd: int, timeout_s: float | None) -> bool:
    """Wait until ``fd`` takes bytes, or has failed; False when that long was not enough."""
    poller = make_poller()
    try:
        poller.add(fd, WRITE)
        return bool(poller.poll(timeout_s))
    finally:
        poller.close()
