"""Connections that begin with a PROXY header: it is read before anything of HTTP is.

Only where the PROXY protocol is on does a worker have such ports.  A connection of theirs
begins with a `Preface` in place of its way to read; that takes the header, and nothing more,
out of the kernel, says whose connection it is, and steps aside.  Runs in the leader.
"""

from __future__ import annotations

import socket
from time import monotonic
from typing import TYPE_CHECKING, Final

from gthreadsrv.http.errors import ProxyHeaderError
from gthreadsrv.net.proxy_protocol import HeaderError, HeaderReader
from gthreadsrv.worker.connection import IDLE, READING
from gthreadsrv.worker.ports import Port
from gthreadsrv.wsgi.file_wrapper import FileWrapper

if TYPE_CHECKING:
    from collections.abc import Callable

    from gthreadsrv.net.listeners import Listener
    from gthreadsrv.net.peers import TrustedPeers
    from gthreadsrv.worker.connection import Connection
    from gthreadsrv.worker.patience import Patience
    from gthreadsrv.worker.pool import Pool
    from gthreadsrv.wsgi.fields import FieldTrust

__all__ = ["VERSIONS", "PrefacedPort"]

VERSIONS: Final = {"v1": frozenset({1}), "v2": frozenset({2}), "auto": frozenset({1, 2})}
"""What the setting's words stand for."""

_PEEK_BYTES: Final = 512


class PrefacedPort(Port):
    """A listener whose connections must begin with a PROXY header."""

    __slots__ = ("patience", "pool", "proxies", "versions")

    def __init__(
        self,
        listener: Listener,
        trusted: TrustedPeers,
        *,
        proxies: TrustedPeers,
        versions: frozenset[int],
        pool: Pool,
        patience: Patience,
        multithread: bool,
        multiprocess: bool,
        fields: FieldTrust,
        file_wrapper: type[FileWrapper] = FileWrapper,
        secure: Callable[[Connection], None] | None = None,
    ) -> None:
        super().__init__(
            listener,
            trusted,
            multithread=multithread,
            multiprocess=multiprocess,
            fields=fields,
            prefaced=True,
            file_wrapper=file_wrapper,
            secure=secure,
        )
        self.proxies = proxies
        """Who may send a header; all others are turned away."""
        self.versions = versions
        self.pool = pool
        self.patience = patience

    def admit(
        self, sock: socket.socket, peer: tuple[str, str], write_timeout_s: float
    ) -> Connection:
        """See `Port.admit`."""
        connection = super().admit(sock, peer, write_timeout_s)
        connection.receive = Preface(connection, self, allowed=self.proxies.includes(peer[0]))
        return connection


class Preface:
    """`Connection.receive` until the header has come."""

    __slots__ = ("_allowed", "_connection", "_port", "_reader", "_receive")

    def __init__(self, connection: Connection, port: PrefacedPort, *, allowed: bool) -> None:
        self._connection = connection
        self._port = port
        self._allowed = allowed
        self._receive = connection.receive
        self._reader = HeaderReader(port.versions)

    def __call__(self, sock: socket.socket, size: int) -> tuple[bytes, int]:
        """Read on in the header; return what comes behind it.

        Raises BlockingIOError when there is nothing behind it yet, and ProxyHeaderError for
        what is no header, or is nobody's to send.
        """
        reader = self._reader
        while not reader.done:
            # The rest stays in the kernel: it may be another layer's, and keeps its arrival time.
            try:
                data = sock.recv(_PEEK_BYTES, socket.MSG_PEEK)
            except BlockingIOError:
                if reader.started:
                    self._await_rest()
                raise
            if not data:
                return b"", 0
            self._note_first_byte()
            if not self._allowed:
                raise ProxyHeaderError("peer is not in proxy_allow_ips", 403)
            try:
                taken = reader.feed(data)
            except HeaderError as error:
                raise ProxyHeaderError(str(error)) from None
            sock.recv(taken)
        connection = self._connection
        connection.receive = self._receive
        if reader.source is not None:
            connection.peer = reader.source
        try:
            return self._receive(sock, size)
        except BlockingIOError:
            self._await_request()
            raise

    def _note_first_byte(self) -> None:
        connection = self._connection
        if not connection.first_read:
            connection.first_read = connection.read_at = monotonic()

    def _await_rest(self) -> None:
        """Give the rest of the header the time of a head, from the first byte."""
        connection, port = self._connection, self._port
        if connection.state is IDLE:
            connection.fresh_until = 0.0
            connection.move(READING)
        port.pool.watch(connection, connection.first_read + port.patience.head_s)

    def _await_request(self) -> None:
        """Make of it what a connection is on which nothing has come yet.

        Balancers open connections ahead of need, and send their header at once.
        """
        connection, port = self._connection, self._port
        if connection.state is READING:
            connection.move(IDLE)
        port.pool.watch(connection, monotonic() + port.patience.idle_s)
