"""Readiness of many descriptors: epoll on Linux, `selectors` elsewhere.

Level-triggered: what was not read is reported again, so no wake-up can be lost.  Only the
leader polls; any thread may add or remove.
"""

from __future__ import annotations

import select
import selectors
import sys
from typing import Protocol

__all__ = ["READ", "WRITE", "Poller", "make_poller"]

READ = 1
WRITE = 4


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
        self._epoll = select.epoll()
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
    """Return the best poller of this system."""
    return _EpollPoller() if sys.platform == "linux" else _SelectorsPoller()
