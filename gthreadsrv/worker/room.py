"""Room for a newcomer at the limit of connections: who is closed for it, and who is not.

Asked at --worker-connections, and where the process runs out of descriptors.  Whoever is closed
must not lose anything by it: a client that was busy a moment ago may have its next request on the
way, one that has been answered may still be reading, a handshake takes some round trips.  Each
has its grace; until that of the first of them is over the newcomer waits in the kernel's queue.
Runs in the leader.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from gthreadsrv.http.errors import ReadTimeoutError
from gthreadsrv.worker.connection import HANDSHAKING, IDLE, LINGERING, READING, WRITING
from gthreadsrv.worker.drain import IDLE_GRACE_S
from gthreadsrv.worker.service import LINGER_S

if TYPE_CHECKING:
    from gthreadsrv.worker.connection import Connection
    from gthreadsrv.worker.patience import Patience
    from gthreadsrv.worker.pool import Pool
    from gthreadsrv.worker.service import Service

__all__ = ["Room"]

_SILENT_GRACE_S: Final = 0.1
"""For those who have not: a first request leaves its client together with the handshake's end."""

_SHARE: Final = 16
"""A sixteenth of those who may be closed goes at once: a look at all of them pays for many."""


class Room:
    """Finds it, for the intake of one pool thread."""

    __slots__ = ("_head_grace_s", "_limit", "_patience", "_pool", "_service")

    def __init__(self, pool: Pool, limit: int, patience: Patience, service: Service) -> None:
        """``limit`` is that of connections."""
        self._pool = pool
        self._limit = limit
        self._patience = patience
        self._service = service
        self._head_grace_s = min(IDLE_GRACE_S, patience.head_s / 4)

    def full(self) -> bool:
        """Say whether a newcomer needs somebody to be closed."""
        return len(self._pool.connections) >= self._limit

    def there(self, now: float) -> bool:
        """Say whether one connection more may be accepted now; if not, `Pool.room_at` says when.

        Nobody who begins to wait after the look has less than the shortest grace.
        """
        pool = self._pool
        if not self.full():
            return True
        if now < pool.room_at:
            return False
        # A copy: other threads let go of theirs meanwhile.
        first = min(map(self._spare_at, list(pool.connections.values())), default=inf)
        if first <= now:
            return True
        pool.room_at = min(first, now + _SILENT_GRACE_S)
        return False

    def make(self, now: float) -> bool:
        """Close those who have waited longest, the idle ones first; True when somebody was."""
        found = [(self._spare_at(one), one) for one in list(self._pool.connections.values())]
        spare = [(one.state in (READING, WRITING), at, one) for at, one in found if at <= now]
        spare.sort(key=lambda each: each[:2])
        wanted = total = max(1, len(spare) // _SHARE)
        for _, _, connection in spare:
            if connection.state <= READING and connection.wire.peek():
                # What it waits for has come, and waits to be read: that is no idle client.
                continue
            self._close(connection)
            wanted -= 1
            if not wanted:
                break
        return wanted < total

    def _spare_at(self, connection: Connection) -> float:
        """Return the instant from which a connection may be closed for another; inf is never."""
        patience = self._patience
        state, until = connection.state, connection.deadline
        if state is IDLE:
            grace_s = IDLE_GRACE_S if connection.first_read else _SILENT_GRACE_S
            return _begun(until, patience.idle_s) + grace_s
        if state is HANDSHAKING:
            return _begun(until, patience.head_s) + IDLE_GRACE_S
        if state is LINGERING:
            return _begun(until, LINGER_S) + IDLE_GRACE_S
        if state is READING:
            # A head fits into one packet or a few. A body's client may be busy sending.
            if connection.head is None:
                return connection.first_read + self._head_grace_s
            return connection.read_at + patience.body_s / 2
        if state is WRITING:
            # Since it took something last.
            return _begun(until, patience.write_s) + patience.write_s / 2
        return inf

    def _close(self, connection: Connection) -> None:
        service, state = self._service, connection.state
        if state is READING:
            what = "head" if connection.head is None else "body"
            service.refuse(
                connection, ReadTimeoutError(f"the request's {what} is slow, and others wait")
            )
            if connection.state is LINGERING:
                service.close(connection, None)
        elif state is WRITING:
            service.lose(connection, "limit")
        else:
            # A lingering one has been counted, when our side was shut.
            service.close(connection, None if state is LINGERING else "limit")


def _begun(until: float, wait_s: float) -> float:
    """When a wait began that ends at ``until``; long ago, where it never does."""
    return until - wait_s if until < inf else 0.0
