"""Listening sockets: made by the master, handed to every worker through fork.

Options that the kernel copies from a listener to the connections it accepts are set here
once, so no worker pays for them: TCP_NODELAY and SO_TIMESTAMPNS.

Runs in the master, before any fork and on a reload. Not here: accepting, and anything about
HTTP or TLS.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from gthreadsrv.net.address import Address, FdAddress, TcpAddress, UnixAddress

if TYPE_CHECKING:
    from collections.abc import Sequence

# asm-generic/socket.h; the socket module names it from Python 3.14 on, for Linux alone.
SO_TIMESTAMPNS: Final = 35

_SOMAXCONN_FILE: Final = "/proc/sys/net/core/somaxconn"


class BindError(Exception):
    """A listener cannot be had; `str()` is one line, without the setting's name."""

    def __init__(self, address: Address, why: str) -> None:
        super().__init__(address, why)
        self.address = address
        self.why = why

    def __str__(self) -> str:
        return f"cannot listen on {self.address}: {self.why}"


class Listener(NamedTuple):
    """One listening socket, its true address, and what the user wrote to get it."""

    sock: socket.socket
    address: Address  # as the kernel has it: the port chosen for port 0, the path behind an fd
    kind: Literal["tcp", "unix"]
    configured: Address
    # False: somebody else opened it and goes on using it, so it is neither unlinked nor shut
    # and its queue is not ours to empty.
    owned: bool = True
    # Device and number of the socket file: by that name there may be another's by now.
    file: tuple[int, int] | None = None

    def fileno(self) -> int:
        """For pollers."""
        return self.sock.fileno()

    def set_backlog(self, backlog: int) -> None:
        """Change the length of the accept queue; listen(2) may be called again for that."""
        self.sock.listen(backlog)

    def unlink(self) -> None:
        """Remove the socket file, so that nobody finds the way in; a no-op for all other kinds."""
        address = self.address
        if self.owned and isinstance(address, UnixAddress) and self.file is not None:
            with suppress(FileNotFoundError):
                if _file_id(address.path) == self.file:
                    os.unlink(address.path)

    def close(self) -> None:
        """Close this process's descriptor; the file of a unix socket stays."""
        self.sock.close()


class SocketFile(NamedTuple):
    """Who may use a new socket file."""

    umask: int | None = None  # None: the process's own
    uid: int = -1  # -1: leave the owner
    gid: int = -1


def bind(
    addresses: Sequence[Address], backlog: int, socket_file: SocketFile | None = None
) -> list[Listener]:
    """Open all listeners or none; BindError says which one failed and why."""
    listeners: list[Listener] = []
    try:
        for address in addresses:
            v6only = isinstance(address, TcpAddress) and _ipv4_twin(address, addresses)
            try:
                listeners.append(_open(address, backlog, socket_file or SocketFile(), v6only))
            except OSError as error:
                raise BindError(address, _reason(address, error)) from error
    except BindError:
        for listener in listeners:
            listener.unlink()
            listener.close()
        raise
    return listeners


def backlog_cap() -> int | None:
    """The kernel's own limit for accept queues; None where it does not tell."""
    try:
        with open(_SOMAXCONN_FILE, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _ipv4_twin(address: TcpAddress, addresses: Sequence[Address]) -> bool:
    # "::" takes IPv4 as well, which is what a lone [::]:8000 is meant to do; beside an IPv4
    # listener on the same port the kernel would refuse the second of the two (ip(7), ipv6(7)).
    return any(
        isinstance(other, TcpAddress) and other.port == address.port and ":" not in other.host
        for other in addresses
    )


def _open(address: Address, backlog: int, socket_file: SocketFile, v6only: bool) -> Listener:
    if isinstance(address, FdAddress):
        return _adopt(address, backlog)
    if isinstance(address, UnixAddress):
        return _listen_unix(address, backlog, socket_file)
    return _listen_tcp(address, backlog, v6only)


def _listen_tcp(address: TcpAddress, backlog: int, v6only: bool) -> Listener:
    family, _, _, _, sockaddr = _resolve(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restart finds the port still held by old connections in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
        sock.bind(sockaddr)
        _prepare_tcp(sock)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    host = address.host if _is_literal(address.host) else sock.getsockname()[0]
    real = TcpAddress(host, sock.getsockname()[1])
    return Listener(sock, real, "tcp", address)


def _prepare_tcp(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        # A sandbox may refuse it; workers then fall back to the time they can see themselves.
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


def _is_literal(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _resolve(
    address: TcpAddress,
) -> tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]:
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    # A name with both families ("localhost") gives the IPv4 one: one bind is one listener.
    return min(found, key=lambda info: info[0] != socket.AF_INET)


def _listen_unix(address: UnixAddress, backlog: int, socket_file: SocketFile) -> Listener:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if address.abstract:
            sock.bind(address.path)
        else:
            _remove_stale(address.path)
            _bind_file(sock, address.path, socket_file)
        sock.listen(backlog)
        file = None if address.abstract else _file_id(address.path)
    except OSError:
        sock.close()
        raise
    return Listener(sock, address, "unix", address, file=file)


def _file_id(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on; EADDRINUSE for anything else found there."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EADDRINUSE, "the path exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A live listener with a full queue answers EAGAIN to a non-blocking connect: still live.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, "another process listens there")


def _bind_file(sock: socket.socket, path: str, socket_file: SocketFile) -> None:
    # The umask in force while bind() makes the file decides its mode (unix(7)); changing the mode
    # afterwards would leave a moment in which anybody may connect.
    previous = None if socket_file.umask is None else os.umask(socket_file.umask)
    try:
        sock.bind(path)
    finally:
        if previous is not None:
            os.umask(previous)
    if (socket_file.uid, socket_file.gid) != (-1, -1):
        # Whoever may write to the directory may have put a link there since, to a file of root's.
        os.chown(path, socket_file.uid, socket_file.gid, follow_symlinks=False)


def _adopt(address: FdAddress, backlog: int) -> Listener:
    # Our own copy, closed on exec; the descriptor given to us stays as it was.
    sock = socket.socket(fileno=os.dup(address.fd))
    try:
        if sock.type != socket.SOCK_STREAM or sock.family not in {
            socket.AF_INET,
            socket.AF_INET6,
            socket.AF_UNIX,
        }:
            raise OSError(errno.ENOTSOCK, "the descriptor is not a stream socket")
        name = sock.getsockname()
        if sock.family == socket.AF_UNIX:
            sock.setblocking(False)
            path = name.decode(errors="surrogateescape") if isinstance(name, bytes) else name
            listener = Listener(sock, UnixAddress(path), "unix", address, owned=False)
        else:
            _prepare_tcp(sock)
            listener = Listener(sock, TcpAddress(*name[:2]), "tcp", address, owned=False)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return listener


def _reason(address: Address, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "the host name is not known here"
    match error.errno:
        case errno.EADDRINUSE:
            detail = error.strerror or ""
            known = detail != os.strerror(errno.EADDRINUSE)
            return detail if known else "the address is already in use"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address"
        case errno.EACCES | errno.EPERM if isinstance(address, TcpAddress):
            return "permission denied (ports below 1024 need root or CAP_NET_BIND_SERVICE)"
        case errno.ENOENT:
            return "the directory does not exist"
        case errno.EBADF:
            return "no such file descriptor is open"
        case _:
            return error.strerror or str(error)
