"""A listener as a worker sees it: how to accept, how to read, what its environ holds."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import TYPE_CHECKING

from gthreadsrv.net.drain import admit
from gthreadsrv.wsgi.environ import EnvironBuilder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gthreadsrv.net.listeners import Listener

__all__ = ["Port", "TrustedPeers", "receive_plain", "receive_stamped"]

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


class TrustedPeers:
    """Which peers' X-Forwarded-* fields count; asked once per connection."""

    __slots__ = ("_everyone", "_networks")

    def __init__(self, entries: Sequence[str]) -> None:
        self._everyone = "*" in entries
        self._networks = [
            ipaddress.ip_network(entry, strict=False) for entry in entries if entry != "*"
        ]

    def includes(self, address: str) -> bool:
        """Say whether ``address`` may be believed; a unix socket's peer always may."""
        if self._everyone or not address:
            return True
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return any(ip.version == network.version and ip in network for network in self._networks)


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
        pass_underscores: bool = False,
    ) -> None:
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
        self.environs = EnvironBuilder(
            server_name=host,
            # PEP 3333: SERVER_PORT can never be empty.
            server_port=port or "80",
            multithread=multithread,
            multiprocess=multiprocess,
            pass_underscores=pass_underscores,
        )

    def accept(self) -> tuple[socket.socket, tuple[str, str]]:
        """Accept one connection.  Raises BlockingIOError when none waits, else OSError."""
        sock, name = self.sock.accept()
        sock.setblocking(False)
        if self.tcp:
            if self.owned:
                admit(sock)
            return sock, (name[0], str(name[1]))
        return sock, ("", "")
