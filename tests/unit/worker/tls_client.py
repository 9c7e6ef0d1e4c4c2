"""A TLS client that is stepped by the test, as the rig's worker is: nothing in it waits."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable

from tests.unit.worker.rig import drained


class TlsClient:
    """The client's end of a connection; its messages go when the test says so."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.closed = False
        """Whether the server has said that nothing more comes."""

    def step(self) -> bytes:
        """Go on with the handshake; the bytes to send next."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def take(self) -> None:
        """Feed what the server has sent."""
        self.incoming.write(drained(self.sock))

    def shake(self, pump: Callable[[], object], size: int = 1 << 20) -> None:
        """The whole handshake, in packets of up to ``size`` bytes."""
        for _ in range(5):
            flight = self.step()
            for start in range(0, len(flight), size):
                self.sock.sendall(flight[start : start + size])
                pump()
            self.take()
            if not flight:
                return
        raise AssertionError("the handshake does not end")

    def seal(self, data: bytes) -> bytes:
        """``data`` encrypted, to be sent."""
        self.tls.write(data)
        return self.outgoing.read()

    def send(self, data: bytes) -> None:
        self.sock.sendall(self.seal(data))

    def farewell(self) -> bytes:
        """Our close_notify, to be sent."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        return self.outgoing.read()

    def received(self) -> bytes:
        """All that has come, decrypted."""
        self.take()
        pieces = []
        with contextlib.suppress(ssl.SSLWantReadError):
            while piece := self.tls.read(1 << 20):
                pieces.append(piece)
            self.closed = True
        return b"".join(pieces)
