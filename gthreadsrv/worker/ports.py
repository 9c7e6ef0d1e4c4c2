"""A listener as a worker sees it: how to accept, how to read, what its environ holds."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from gthreadsrv.worker.connection import Connection
from gthreadsrv.wsgi.environ import ClientEnvironBuilder, EnvironBuilder
from gthreadsrv.wsgi.fields import ClientFinder, FieldTrust

if TYPE_CHECKING:
    from collections.abc import Callable

    from gthreadsrv.net.listeners import Listener
    from gthreadsrv.net.peers import TrustedPeers

__all__ = ["Port", "receive_plain", "receive_stamped"]

_USUAL = FieldTrust()

# struct timespec as SO_TIMESTAMPNS delivers it on 64-bit Linux.
_TIMESPEC = struct.Struct("@qq")
_CONTROL_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)


def receive_stamped(sock: socket.socket, size: int) -> tuple[bytes, int]:
    """Return up to ``size`` bytes and when the kernel got the last of them.

    The time is CLOCK_REALTIME in ns; 0 when the kernel sent none, which happens for
    bytes that came before the first user of timestamps switched them on.  recvmsg(2)
    with the control buffer was measured to cost the same as recv(2).
    """
    data, control, _flags, _address = sock.recvmsg(size, _CONTROL_BYTES)
    if control and len(control[0][2]) == _TIMESPEC.size:
        seconds, nanoseconds = _TIMESPEC.unpack(control[0][2])
        return data, seconds * 1_000_000_000 + nanoseconds
    return data, 0


def receive_plain(sock: socket.socket, size: int) -> tuple[bytes, int]:
    """Return up to ``size`` bytes; unix sockets keep no arrival times."""
    return sock.recv(size), 0


class Port:
    """One listener of this worker."""

    __slots__ = ("environs", "fd", "owned", "receive", "sock", "tcp", "trusted", "watched")

    def __init__(
        self,
        listener: Listener,
        trusted: TrustedPeers,
        *,
        multithread: bool,
        multiprocess: bool,
        fields: FieldTrust = _USUAL,
        prefaced: bool = False,
    ) -> None:
        """``prefaced``: whether peers are those that a PROXY header names."""
        self.sock = listener.sock
        self.fd = listener.sock.fileno()
        self.tcp = listener.kind == "tcp"
        self.owned = listener.owned
        """Whether its queue is ours to empty; others may go on using an inherited one."""
        self.trusted = trusted
        self.watched = False
        """Whether the poller reports new connections.  Only the leader changes it."""
        self.receive: Callable[[socket.socket, int], tuple[bytes, int]] = (
            receive_stamped if self.tcp and hasattr(socket, "CMSG_SPACE") else receive_plain
        )
        name = self.sock.getsockname()
        host, port = (str(name[0]), str(name[1])) if self.tcp else ("localhost", "")
        # PEP 3333: SERVER_PORT can never be empty.
        about = (host, port or "80", multithread, multiprocess, fields)
        self.environs = (
            EnvironBuilder(*about, hops=trusted)
            if fields.client == "off"
            else ClientEnvironBuilder(
                *about,
                hops=trusted,
                finder=ClientFinder(fields.client, trusted, prefaced=prefaced),
            )
        )

    def accept(self) -> tuple[socket.socket, tuple[str, str]]:
        """Accept one connection.  Raises BlockingIOError when none waits, else OSError."""
        sock, name = self.sock.accept()
        sock.setblocking(False)
        if self.tcp:
            return sock, (name[0], str(name[1]))
        return sock, ("", "")

    def admit(
        self, sock: socket.socket, peer: tuple[str, str], write_timeout_s: float
    ) -> Connection:
        """Make a connection of what `accept` returned; here it is decided whom to believe."""
        return Connection(sock, self, peer, write_timeout_s, trusted=self.trusted.includes(peer[0]))
