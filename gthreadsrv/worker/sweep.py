"""The end of waits that have lasted too long: clients that are silent, slow, or gone.

Runs in the leader, when the earliest deadline has passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gthreadsrv.http.errors import ReadTimeoutError
from gthreadsrv.worker.connection import ACTIVE, CLOSED, HANDSHAKING, IDLE, READING, WRITING

if TYPE_CHECKING:
    from gthreadsrv.worker.connection import Connection
    from gthreadsrv.worker.handshake import Handshakes
    from gthreadsrv.worker.pool import Pool
    from gthreadsrv.worker.service import Service

__all__ = ["SWEEP_LOOKS", "SWEEP_PAUSE_S", "SWEEP_SHARE", "sweep"]

SWEEP_LOOKS: Final = 1000
"""Connections looked at in one turn, some 0.2 ms for all."""

SWEEP_SHARE: Final = 1000
"""One in so many of those to be looked at may be ended in a turn, and one more: an answer and a
log line each, some 0.1 ms.  So ten thousand that are late together are gone in seconds."""

SWEEP_PAUSE_S: Final = 0.002
"""From turn to turn.  Without it the crowd that is ended, and comes back, and what the server does
for it are a dialogue of milliseconds, for which other processes wait in the kernel's run queue."""

_LOOK_AGAIN_S: Final = 1.0
"""From a look at a connection that was about to be read to the next."""


def sweep(pool: Pool, service: Service, handshakes: Handshakes, now: float) -> None:
    """End waits that have lasted too long, and find the next deadline: a turn of it.

    A crowd that came together is late together.  Ended in one go it would hold up whoever
    has a request there; so the rest waits in `Pool.unswept`, until `Pool.sweep_at`.
    """
    unswept = pool.unswept
    if not unswept:
        # Before the look: a deadline that is set meanwhile lowers it, or is seen.
        pool.earliest = float("inf")
        unswept.extend(pool.connections.values())
    left = 1 + len(unswept) // SWEEP_SHARE
    for _ in range(min(SWEEP_LOOKS, len(unswept))):
        connection = unswept.pop()
        if connection.deadline > now:
            # Also for one in a thread: it may be on its way back with this deadline.
            pool.expect(connection, connection.deadline)
        elif connection.state not in (ACTIVE, CLOSED):
            _end(connection, pool, service, handshakes, now)
            left -= 1
            if not left:
                break
    pool.sweep_at = now + SWEEP_PAUSE_S


def _end(
    connection: Connection, pool: Pool, service: Service, handshakes: Handshakes, now: float
) -> None:
    """End the wait for a late connection, unless its client has just spoken."""
    state = connection.state
    unread = connection.read_at < connection.deadline
    if unread and state in (IDLE, READING) and connection.wire.peek():
        # It came while the leader was away: the poller is about to tell. An excuse for once,
        # nothing having been read since; who goes on to trickle is late all the same.
        pool.expect(connection, now + _LOOK_AGAIN_S)
    elif state is IDLE:
        service.close(connection, "keepalive_timeout")
    elif state is HANDSHAKING:
        handshakes.lose(connection, "timeout")
    elif state is READING:
        what = "head" if connection.head is None else "body"
        service.refuse(connection, ReadTimeoutError(f"the request's {what} did not come in time"))
    elif state is WRITING:
        # It may be connected still; yet nobody reads what we have to say.
        service.lose(connection, "timeout")
    else:
        # A lingering one has been counted, when our side was shut.
        service.close(connection, None)
