"""A listener as a worker sees it: how to accept, how to read, what its environ holds."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING

from gthreadsrv.net.drain import admit
from gthreadsrv.system import plain_socket
from gthreadsrv.worker.connection import Connection
from gthreadsrv.wsgi.environ import ClientEnvironBuilder, EnvironBuilder
from gthreadsrv.wsgi.fields import ClientFinder, FieldTrust
from gthreadsrv.wsgi.file_wrapper import FileWrapper

if TYPE_CHECKING:
    from collections.abc import Callable

    from gthreadsrv.net.listeners import Listener
    from gthreadsrv.net.peers import TrustedPeers

__all__ = ["Port", "receive_plain", "receive_stamped"]

_USUAL = FieldTrust()

# accept(2): errors of the new connection itself, which are to be taken like EAGAIN.
_LOST_ON_THE_WAY = frozenset(
    {
        errno.EPERM,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ETIMEDOUT,
    }
)

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

    __slots__ = (
        "environs",
        "fd",
        "owned",
        "receive",
        "secure",
        "sock",
        "tcp",
        "trusted",
        "watched",
    )

    def __init__(
        self,
        listener: Listener,
        trusted: TrustedPeers,
        *,
        multithread: bool,
        multiprocess: bool,
        fields: FieldTrust = _USUAL,
        prefaced: bool = False,
        file_wrapper: type[FileWrapper] = FileWrapper,
        secure: Callable[[Connection], None] | None = None,
    ) -> None:
        """Make what all connections of ``listener`` share.

        ``prefaced``: whether peers are those that a PROXY header names.  ``secure`` has a
        connection begin with a TLS handshake; None: they are plain.
        """
        self.sock = listener.sock
        self.fd = listener.sock.fileno()
        self.tcp = listener.kind == "tcp"
        self.owned = listener.owned
        """Whether its queue is ours to empty; others may go on using an inherited one."""
        self.trusted = trusted
        self.secure = secure
        self.watched = False
        """Whether the poller reports new connections.  Only the leader changes it."""
        self.receive: Callable[[socket.socket, int], tuple[bytes, int]] = (
            receive_stamped if self.tcp and hasattr(socket, "CMSG_SPACE") else receive_plain
        )
        name = self.sock.getsockname()
        host, port = (str(name[0]), str(name[1])) if self.tcp else ("localhost", "")
        # PEP 3333: SERVER_PORT can never be empty.
        about = (
            host,
            port or ("80" if secure is None else "443"),
            multithread,
            multiprocess,
            fields,
        )
        scheme = "http" if secure is None else "https"
        self.environs = (
            EnvironBuilder(*about, hops=trusted, scheme=scheme, file_wrapper=file_wrapper)
            if fields.client == "off"
            else ClientEnvironBuilder(
                *about,
                hops=trusted,
                finder=ClientFinder(fields.client, trusted, prefaced=prefaced),
                scheme=scheme,
                file_wrapper=file_wrapper,
            )
        )

    def accept(self) -> tuple[socket.socket, tuple[str, str]]:
        """Accept one connection.

        Raises BlockingIOError when none waits, or it broke on its way; else OSError.
        """
        try:
            # What socket.accept does, but for the class: a library of greenlets replaces that by
            # its own, whose methods wait, at the price of an event loop's watchers for each.
            fd, name = self.sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001
            sock = plain_socket(self.sock.family, self.sock.type, self.sock.proto, fd)
        except OSError as error:
            if error.errno in _LOST_ON_THE_WAY:
                raise BlockingIOError(error.errno, error.strerror) from error
            raise
        sock.setblocking(False)
        if self.tcp:
            if self.owned:
                admit(sock)
            return sock, (name[0], str(name[1]))
        return sock, ("", "")

    def admit(
        self, sock: socket.socket, peer: tuple[str, str], write_timeout_s: float
    ) -> Connection:
        """Make a connection of what `accept` returned; here it is decided whom to believe."""
        connection = Connection(
            sock, self, peer, write_timeout_s, trusted=self.trusted.includes(peer[0])
        )
        if self.secure is not None:
            self.secure(connection)
        return connection
