"""Room at the limit of connections: the oldest ones without a request go.  Runs in the leader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gthreadsrv.worker.connection import HANDSHAKING, IDLE, LINGERING

if TYPE_CHECKING:
    from gthreadsrv.worker.connection import Connection
    from gthreadsrv.worker.pool import Pool
    from gthreadsrv.worker.service import Service

__all__ = ["evict", "spare"]

_SHARE = 16
"""A sixteenth of the idle ones go at once: a scan pays for many."""


def spare(pool: Pool) -> list[Connection]:
    """Return the connections that may be closed to make room."""
    # A copy: other threads let go of theirs meanwhile.
    connections = list(pool.connections.values())
    return [one for one in connections if one.state in (IDLE, HANDSHAKING, LINGERING)]


def evict(pool: Pool, service: Service) -> bool:
    """Close the oldest connections without a request; True when that has made room."""
    oldest = sorted(spare(pool), key=lambda one: one.deadline)
    wanted = total = max(1, len(oldest) // _SHARE)
    for connection in oldest:
        if connection.state is IDLE and connection.wire.peek():
            # Its next request waits to be read: that is no idle client.
            continue
        # A lingering one has been counted, when our side was shut.
        lingers = connection.state is LINGERING
        service.close(connection, None if lingers else "limit")
        wanted -= 1
        if not wanted:
            break
    return wanted < total
