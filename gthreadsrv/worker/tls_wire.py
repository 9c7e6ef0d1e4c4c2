"""A connection's way out where it is encrypted.

What `Wire` does over a socket this does over a `TlsStream`.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from gthreadsrv.worker.tls_stream import TlsStream
from gthreadsrv.worker.wire import Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from gthreadsrv.worker.connection import Connection
    from gthreadsrv.worker.outbox import Outbox

__all__ = ["TlsWire", "securing"]

_JOIN_BYTES: Final = 64 * 1024
"""How much of a body is sent with its head."""


def securing(context: ssl.SSLContext, write_timeout_s: float) -> Callable[[Connection], None]:
    """Return what has a new connection begin with a handshake."""

    def secure(connection: Connection) -> None:
        stream = TlsStream(connection.sock, context)
        connection.wire = TlsWire(connection.sock, write_timeout_s, stream)
        connection.receive = stream.receive

    return secure


class TlsWire(Wire):
    """Sends encrypted."""

    __slots__ = ("stream",)

    def __init__(self, sock: socket.socket, timeout_s: float, stream: TlsStream) -> None:
        super().__init__(sock, timeout_s)
        self.stream = stream
        self._send = stream.send

    @property
    def shaking(self) -> bool:
        """See `Wire.shaking`."""
        return self.stream.shaking

    @property
    def partial(self) -> bool:
        """See `Wire.partial`: a piece of a record."""
        return self.stream.partial

    @property
    def unsent(self) -> bool:
        """See `Wire.unsent`."""
        return self.stream.unsent

    @property
    def lingers(self) -> bool:
        """See `Wire.lingers`: its close_notify, which would be answered by a reset."""
        return True

    def send_pair(self, first: bytes, second: bytes) -> None:
        """Send both; what is copied for that is bounded."""
        self.send(first + second[:_JOIN_BYTES])
        if len(second) > _JOIN_BYTES:
            self.send(memoryview(second)[_JOIN_BYTES:])

    def shut(self) -> bool:
        """Tell the client that nothing more comes; False when it has gone already.

        Where `unsent` is true afterwards it is to be called again.
        """
        try:
            if self.stream.finish(whole=not self.cut):
                self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Give up what is left; an idle client is told that nothing more comes."""
        if self.outbox is None and not self.lost:
            with suppress(OSError):
                self.stream.finish(whole=not self.cut)
        super().close()

    def _send_head(self, head: bytes) -> int:
        return self.stream.send(head)

    def _empty(self, outbox: Outbox) -> bool:
        return outbox.flush(self.stream, TlsStream.sendfile)
