"""What the kernel knows about a listening socket: its accept queue and what it dropped.

Runs in the exporter, on the listeners it inherited, at every scrape: a system call or two
per listener. Each function answers None where the kernel or a sandbox does not tell, so
that the series is absent. Linux only by nature; other systems get None everywhere.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Final, NamedTuple

__all__ = ["Backlog", "ListenerSource", "backlog", "drops"]

# struct tcp_info (linux/tcp.h): state is its first byte; eight bytes of small fields, four
# 32-bit fields, then tcpi_unacked and tcpi_sacked, which on a listener are the accept
# queue's length and limit.
_TCP_INFO: Final = struct.Struct("=B7x4I2I")
_TCP_LISTEN: Final = 10
# SO_MEMINFO (asm-generic/socket.h): nine 32-bit values, SK_MEMINFO_DROPS the last.
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("=9I")
# linux/sock_diag.h, linux/unix_diag.h and linux/netlink.h.
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_UDIAG_SHOW_RQLEN: Final = 0x10
_UNIX_DIAG_RQLEN: Final = 4
_ALL_STATES: Final = 0xFFFFFFFF
_NO_COOKIE: Final = 0xFFFFFFFF
_NLMSGHDR: Final = struct.Struct("=IHHII")
_DIAG_REQUEST: Final = struct.Struct("=BBHIIIII")
_DIAG_MESSAGE: Final = struct.Struct("=BBBxIII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_RQLEN: Final = struct.Struct("=II")


class ListenerSource(NamedTuple):
    """A listener to ask about: ``label`` is its series' name, ``fd`` stays open for good."""

    label: str
    fd: int


class Backlog(NamedTuple):
    """Connections the kernel has completed and nobody accepted yet."""

    queued: int
    limit: int


def backlog(fd: int) -> Backlog | None:
    """Return a listener's accept queue."""
    if sys.platform != "linux":
        return None
    with _borrowed(fd) as sock:
        try:
            if sock.family == socket.AF_UNIX:
                return _unix_backlog(os.fstat(fd).st_ino)
            raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        except OSError:
            return None
    if len(raw) < _TCP_INFO.size:
        return None
    state, *_, queued, limit = _TCP_INFO.unpack(raw)
    # gVisor answers with zeros for what it does not keep; a listener without room is none.
    return Backlog(queued, limit) if state == _TCP_LISTEN and limit else None


def drops(fd: int) -> int | None:
    """Return how many connections a TCP listener has lost, its queue being full or worse.

    A unix socket's client is refused or waits, so nothing is dropped and nothing counted.
    """
    if sys.platform != "linux":
        return None
    with _borrowed(fd) as sock:
        if sock.family == socket.AF_UNIX:
            return None
        try:
            raw = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        except OSError:
            return None
    return int(_MEMINFO.unpack(raw)[-1]) if len(raw) == _MEMINFO.size else None


class _borrowed:  # noqa: N801 - reads as the context it is
    """A socket object around a descriptor that belongs to someone else."""

    def __init__(self, fd: int) -> None:
        self._sock = socket.socket(fileno=fd)

    def __enter__(self) -> socket.socket:
        return self._sock

    def __exit__(self, *exc_info: object) -> None:
        self._sock.detach()


def _unix_backlog(inode: int) -> Backlog | None:
    """Ask sock_diag(7) for one unix socket's queue, by its inode."""
    request = _DIAG_REQUEST.pack(
        socket.AF_UNIX, 0, 0, _ALL_STATES, inode, _UDIAG_SHOW_RQLEN, _NO_COOKIE, _NO_COOKIE
    )
    header = _NLMSGHDR.pack(
        _NLMSGHDR.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(0.1)
        netlink.send(header + request)
        return parse_unix_diag(netlink.recv(8192))


def parse_unix_diag(answer: bytes) -> Backlog | None:
    """Find the queue lengths in a sock_diag answer."""
    if len(answer) < _NLMSGHDR.size + _DIAG_MESSAGE.size:
        return None
    length, kind, *_ = _NLMSGHDR.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        return None  # NLMSG_ERROR: no such socket, or not for us to know
    at = _NLMSGHDR.size + _DIAG_MESSAGE.size
    end = min(length, len(answer))
    while at + _ATTRIBUTE.size <= end:
        size, name = _ATTRIBUTE.unpack_from(answer, at)
        if size < _ATTRIBUTE.size:
            return None
        if name == _UNIX_DIAG_RQLEN and at + _ATTRIBUTE.size + _RQLEN.size <= end:
            return Backlog(*_RQLEN.unpack_from(answer, at + _ATTRIBUTE.size))
        at += (size + 3) & ~3
    return None
