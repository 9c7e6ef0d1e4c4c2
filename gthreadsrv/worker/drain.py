"""Leaving without losing anything: what a worker does between TERM and its exit.

The order matters: responses begin to end their connections; the listeners are left,
emptied first when the whole server stops; connections that were busy a moment ago may send
once more; the pool stops when no connection is left.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from gthreadsrv.system import POLLIN, system_poll
from gthreadsrv.worker.connection import IDLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gthreadsrv.worker.connection import Connection
    from gthreadsrv.worker.pool import Pool
    from gthreadsrv.worker.ports import Port

__all__ = ["IDLE_GRACE_S", "Drain"]

IDLE_GRACE_S: Final = 1.0
"""How long a connection must have been idle before a draining worker closes it.

A client that sends a request while we close sees a reset.  One that is busy sends within
this time, and is told in the response that the connection ends.
"""

_SETTLE_S: Final = 0.05
"""From the order to leave on: handshakes that were under way reach the queue, and the master
has said whether the whole server goes."""


class Drain:
    """The draining of one worker: begun by the watchdog, carried out by the leader."""

    def __init__(
        self,
        pool: Pool,
        owned: Iterable[Port],
        idle_s: float,
        show_state: Callable[[str], None],
        *,
        whole: Callable[[], bool],
        shut_ways_in: Callable[[], bool],
    ) -> None:
        """``whole`` says whether the whole server goes; ``shut_ways_in`` turns new clients away.

        It says False where others go on serving them: then the queue is theirs.
        """
        self._pool = pool
        self._owned = tuple(owned)
        self._idle_s = idle_s
        self._show_state = show_state
        self._whole = whole
        self._shut_ways_in = shut_ways_in
        self._orphaned = False
        self._since = 0.0

    @property
    def begun(self) -> bool:
        """Whether the worker drains."""
        return self._since > 0

    def begin(self) -> None:
        """Start to leave.  The watchdog."""
        if self.begun:
            return
        self._show_state("draining")
        self._since = self._pool.closing_since = monotonic()
        self._pool.closing = True
        self._pool.poke()

    def begin_without_master(self) -> None:
        """Start to leave because the master has gone.  The watchdog.

        Everybody leaves then, and nobody but the workers is there to shut the way in: each
        does, which is the same as once, and the queue is emptied as in a stop.
        """
        self._orphaned = self._shut_ways_in()
        self.begin()

    def advance(self, now: float, close_ports: Callable[[], None]) -> list[Connection]:
        """Take the drain a step on; return idle connections to close.  The leader.

        Stops the pool when nothing is left.
        """
        pool = self._pool
        if pool.accepting and now - self._since >= _SETTLE_S and self._may_leave_queues():
            pool.accepting = False
            close_ports()
        if not pool.accepting and not pool.connections:
            pool.stop()
        return [
            connection
            for connection in list(pool.connections.values())
            if connection.state is IDLE
            and now - self._idle_since(connection) >= IDLE_GRACE_S
            # A request may have come while the leader was away: the poller is about to tell.
            and not connection.wire.peek()
        ]

    def _idle_since(self, connection: Connection) -> float:
        # An endless wait does not tell when it began.
        return connection.deadline - self._idle_s if self._idle_s < inf else self._since

    def _may_leave_queues(self) -> bool:
        """Say whether nobody waits for this worker in particular.

        With the whole server going, what is in the queue is served here; otherwise other
        workers take it. Asked late: a TERM to the whole process group reaches a worker
        before the master, which tells.
        """
        if not (self._orphaned or self._whole()):
            return True
        poll = system_poll()
        for port in self._owned:
            poll.register(port.fd, POLLIN)
        return not poll.poll(0)
