"""Turn new clients away from a listener while those already queued are still served.

Closing a listener resets every connection in its accept queue, and while the queue is being
emptied new ones join it. So the way in is shut first: then the queue only shrinks.

Runs in the master, before it tells workers to leave. Not here: closing, and accepting.
"""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gthreadsrv.net.listeners import Listener

IP_MINTTL: Final = 21  # linux/in.h
IPV6_MINHOPCOUNT: Final = 73  # linux/in6.h

# RFC 5082's option: the kernel drops what has been through a router, and 255 is more than any
# common system's packets begin with (64 and 128, also on loopback). On a listener it meets bare
# SYNs alone: the client's kernel tries again later and finds whoever listens then. The ACK that
# completes a handshake belongs to the half-open connection and is not looked at: whoever has its
# SYN-ACK is in. A socket filter would do as well, but recent kernels (6.18.44 is one) allow one on
# a TCP socket only with CAP_NET_ADMIN, which a server in a container has not.
_NOBODY: Final = 255
_EVERYBODY: Final = 0


def stop_new_connections(listener: Listener) -> bool:
    """Shut the way in; False where that cannot be done without harm, or at all.

    A socket that somebody else opened and keeps (socket activation) is left alone: its queue
    waits for the next server and is not ours to close.
    """
    if not listener.owned:
        return False
    if listener.kind == "unix":
        listener.unlink()
        return True
    return _demand_ttl(listener.sock, _NOBODY)


def admit(sock: socket.socket) -> None:
    """Let a connection receive that became one after the way in was shut.

    The kernel copies the listener's demand to it, and would drop all that its client sends.
    Whoever accepts cannot know when the handshake ended, so this is for every connection.
    """
    _demand_ttl(sock, _EVERYBODY)


def resume_new_connections(listener: Listener) -> bool:
    """Open the way in again; False where it was not only shut but taken away (an unlinked file)."""
    if not listener.owned:
        return True
    if listener.kind == "unix" or sys.platform != "linux":
        return False
    return _demand_ttl(listener.sock, _EVERYBODY)


def _demand_ttl(sock: socket.socket, least: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, least)
        # Also of an IPv6 socket, which may speak IPv4 too.
        sock.setsockopt(socket.IPPROTO_IP, IP_MINTTL, least)
    except OSError:
        return False
    return True
