"""Memory that many connections of a worker share, where each alone has little.

Asked by whichever thread owns a connection.
"""

from __future__ import annotations

import threading

__all__ = ["Allowance"]


class Allowance:
    """So many bytes, for all that ask."""

    __slots__ = ("_lock", "held", "limit")

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self.limit = limit
        self.held = 0
        """Bytes; whole objects, since a part of one keeps all of it."""

    def take(self, count: int) -> bool:
        """Take so much if there is room."""
        with self._lock:
            if self.held + count > self.limit:
                return False
            self.held += count
            return True

    def overdraw(self, count: int) -> None:
        """Take so much all the same: there is no other place for it."""
        with self._lock:
            self.held += count

    def give(self, count: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self.held -= count
