"""A connection's way out: straight to the kernel, the rest into an outbox.

The `Sink` that an exchange writes to.  Used by the thread that owns the connection.
"""

from __future__ import annotations

import os
import socket
from math import inf
from typing import TYPE_CHECKING

from gthreadsrv.worker.outbox import Outbox, sendfile
from gthreadsrv.worker.poller import wait_writable
from gthreadsrv.worker.spool import NoRoomError
from gthreadsrv.wsgi.exchange import ClientGoneError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Wire"]

# Files up to this size are read and sent with their head: one packet, one system call less.
_SMALL_FILE_BYTES = 64 * 1024

# Enough to tell a request from the empty lines that some clients end a body with.
_PEEK_BYTES = 16

_MSG_MORE = getattr(socket, "MSG_MORE", 0)


class Wire:
    """Sends without blocking, except past the outbox's limit."""

    __slots__ = ("_send", "_sock", "_wait_s", "cut", "lost", "outbox")

    def __init__(self, sock: socket.socket, timeout_s: float) -> None:
        self._sock = sock
        self._send: Callable[[bytes | memoryview], int] = sock.send
        self._wait_s = None if timeout_s == inf else timeout_s
        self.lost = False
        """Whether the client has gone: the application may have kept that to itself."""
        self.cut = False
        """Whether the last response ends before it is whole."""
        self.outbox: Outbox | None = None
        """What the client has yet to take; None in the usual case."""

    @property
    def shaking(self) -> bool:
        """Whether a TLS handshake has yet to end."""
        return False

    @property
    def partial(self) -> bool:
        """Whether bytes have come that make sense only with more, and are out of the kernel."""
        return False

    @property
    def unsent(self) -> bool:
        """Whether bytes of a handshake, or of the connection's end, have yet to leave."""
        return False

    @property
    def lingers(self) -> bool:
        """Whether the client, too, has something to say at the end, even one that asked for it."""
        return False

    def send(self, data: bytes | memoryview) -> None:
        """Send ``data``.  Raises ClientGoneError when the client has gone."""
        if self.outbox is not None:
            self._queue(data)
            return
        try:
            sent = self._send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            raise self._gone(str(error)) from error
        if sent < len(data):
            self.outbox = Outbox()
            self.outbox.keep(memoryview(data)[sent:])

    def send_pair(self, first: bytes, second: bytes) -> None:
        """Send both with one gathering system call."""
        if self.outbox is not None:
            self._queue(first)
            self._queue(second)
            return
        try:
            sent = self._sock.sendmsg((first, second))
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            raise self._gone(str(error)) from error
        if sent < len(first) + len(second):
            self.outbox = Outbox()
            if sent < len(first):
                self.outbox.keep(memoryview(first)[sent:])
            self.outbox.keep(memoryview(second)[max(0, sent - len(first)) :])

    def send_file(self, head: bytes, fd: int, offset: int, count: int) -> None:
        """Send ``head`` and ``count`` bytes of a file after it."""
        if count <= _SMALL_FILE_BYTES:
            body = os.pread(fd, count, offset)
            if len(body) < count:
                raise self._gone("a file became shorter while it was sent")
            self.send(head + body)
            return
        if self.outbox is None:
            try:
                sent = self._send_head(head)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                raise self._gone(str(error)) from error
            if sent < len(head):
                self.outbox = Outbox()
                self.outbox.keep(memoryview(head)[sent:])
        else:
            self._queue(head)
        if self.outbox is None:
            self.outbox = Outbox()
        self.outbox.add_file(fd, offset, count)
        self.flush()

    def flush(self) -> bool:
        """Send what is left, as far as the client takes it; True when all has left."""
        outbox = self.outbox
        if outbox is None:
            return True
        try:
            done = self._empty(outbox)
        except OSError as error:
            raise self._gone(str(error)) from error
        except BaseException:
            # The request was interrupted. Nobody knows what has left, and bytes sent twice
            # could make a body that was cut as long as was promised.
            self.close()
            raise
        if done:
            outbox.close()
            self.outbox = None
        return done

    def peek(self) -> bytes:
        """Return the first bytes that have come and that nobody has read; empty at the end, too."""
        try:
            return self._sock.recv(_PEEK_BYTES, socket.MSG_PEEK)
        except OSError:
            return b""

    def shut(self) -> bool:
        """Tell the client that nothing more comes; False when it has gone already."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Give up what is left."""
        if self.outbox is not None:
            self.outbox.close()
            self.outbox = None

    def _send_head(self, head: bytes) -> int:
        return self._sock.send(head, _MSG_MORE)

    def _empty(self, outbox: Outbox) -> bool:
        return outbox.flush(self._sock, sendfile)

    def _gone(self, why: str) -> ClientGoneError:
        self.lost = True
        return ClientGoneError(why)

    def _queue(self, data: bytes | memoryview) -> None:
        outbox = self.outbox
        if outbox is None:
            self.send(data)
            return
        # The client may have caught up while the application computed.
        if self.flush():
            self.send(data)
            return
        while not self._added(outbox, data):
            # Only the client's standstill counts against it, not its slowness.
            if not wait_writable(self._sock.fileno(), self._wait_s):
                raise self._gone("the client does not read")
            if self.flush():
                self.send(data)
                return

    @staticmethod
    def _added(outbox: Outbox, data: bytes | memoryview) -> bool:
        if outbox.full:
            return False
        try:
            outbox.add(data)
        except NoRoomError:
            # Where files are memory. What is there must leave first.
            return False
        return True
