"""TLS handshakes as the leader sees them: a state of a connection, with a deadline.

What is said in a handshake is `worker.tls_stream`'s; this is what becomes of the connection
meanwhile, and when it fails.  A handshake holds no thread.  The deadline is that of a request's
head, from the first byte on; before it a connection is as cheap as an idle one, and is one.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, cast

from gthreadsrv.worker.connection import HANDSHAKING, IDLE

if TYPE_CHECKING:
    from gthreadsrv.worker.connection import Connection
    from gthreadsrv.worker.patience import Patience
    from gthreadsrv.worker.pool import Pool
    from gthreadsrv.worker.service import Service
    from gthreadsrv.worker.tls_wire import TlsWire

__all__ = ["Handshakes", "TlsError"]


class TlsError(ConnectionError):
    """A client that breaks TLS, speaks none, or may not come in; `str()` says which."""


class Handshakes:
    """Moves connections through their handshakes, for the intake of one pool thread."""

    __slots__ = ("_patience", "_pool", "_service")

    def __init__(self, pool: Pool, patience: Patience, service: Service) -> None:
        self._pool = pool
        self._patience = patience
        self._service = service

    def go_on(self, connection: Connection) -> bool:
        """Wait for what a handshake needs next; True when it has ended well.  The leader."""
        stream = cast("TlsWire", connection.wire).stream
        pool = self._pool
        if not stream.begun:
            return False
        now = monotonic()
        if connection.state is not HANDSHAKING:
            connection.move(HANDSHAKING)
            connection.first_read = connection.read_at = now
            pool.expect(connection, now + self._patience.head_s)
        if stream.established:
            stream.shaking = False
            connection.move(IDLE)
            pool.expect(connection, now + self._patience.idle_s)
        pool.shake(connection)
        return connection.state is IDLE

    def lose(self, connection: Connection, reason: str) -> None:
        """End a handshake that its client has left, or that takes too long.  The leader."""
        why = "the client left" if reason == "client" else "the handshake took too long"
        self._service.log_tls_failure(connection, why)
        self._service.close(connection, reason)

    def fail(self, connection: Connection, error: TlsError) -> None:
        """End a connection whose client breaks TLS.  The leader."""
        connection.fresh_until = 0.0
        self._service.log_tls_failure(connection, str(error))
        self._service.row.count_close("error")
        # Not closed at once: a reset would overtake the alert that tells the client why.
        connection.wire.cut = True
        self._service.linger(connection)
