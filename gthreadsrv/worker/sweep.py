"""The end of waits that have lasted too long: clients that are silent, slow, or gone.

Runs in the leader, when the earliest deadline has passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gthreadsrv.http.errors import ReadTimeoutError
from gthreadsrv.worker.connection import ACTIVE, CLOSED, HANDSHAKING, IDLE, READING, WRITING

if TYPE_CHECKING:
    from gthreadsrv.worker.handshake import Handshakes
    from gthreadsrv.worker.pool import Pool
    from gthreadsrv.worker.service import Service

__all__ = ["SWEEP_TURN", "sweep"]

SWEEP_TURN: Final = 50
"""Waits ended in one turn: an answer and a log line each, some five milliseconds for all."""

_LOOK_AGAIN_S: Final = 1.0
"""From a look at a connection that was about to be read to the next."""


def sweep(pool: Pool, service: Service, handshakes: Handshakes, now: float) -> None:
    """End waits that have lasted too long, and find the next deadline.

    A crowd that came together is late together: after `SWEEP_TURN` of them those whose
    requests have come are served first.
    """
    pool.earliest = float("inf")
    ended = 0
    for connection in list(pool.connections.values()):
        if ended >= SWEEP_TURN:
            pool.earliest = now
            pool.poke()
            return
        state = connection.state
        if connection.deadline > now:
            # Also for one in a thread: it may be on its way back with this deadline.
            pool.expect(connection, connection.deadline)
            continue
        if state in (ACTIVE, CLOSED):
            continue
        ended += 1
        if state is IDLE:
            if connection.wire.peek():
                # A request has come while the leader was away: the poller is about to tell.
                pool.expect(connection, now + _LOOK_AGAIN_S)
            else:
                service.close(connection, "keepalive_timeout")
        elif state is HANDSHAKING:
            handshakes.lose(connection, "timeout")
        elif state is READING:
            what = "head" if connection.head is None else "body"
            service.refuse(
                connection, ReadTimeoutError(f"the request's {what} did not come in time")
            )
        elif state is WRITING:
            # It may be connected still; yet nobody reads what we have to say.
            service.lose(connection, "timeout")
        else:
            # A lingering one has been counted, when our side was shut.
            service.close(connection, None)
