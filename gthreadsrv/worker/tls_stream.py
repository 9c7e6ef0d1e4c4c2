"""TLS over a non-blocking socket, with a socket's manners: `receive` and `send`.

OpenSSL gets its bytes from memory, not from the socket, for two reasons. Inside one read of a
socket it goes on for as long as bytes come that are none of the application's: a client that
sends nothing but key updates was seen to hold such a read, and with it the leader, for 3.6 s of
4; here it is given what one read of ours has brought. And what it wants to say never waits for
the client in the middle of a call, so a read cannot want to write. The price is 3 kB for each
connection.

A stream belongs to its connection's owner, as the socket does.
"""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from typing import Final

from gthreadsrv.http.errors import PlainHttpError
from gthreadsrv.worker.handshake import TlsError

__all__ = ["TlsStream"]

_PIECE_BYTES: Final = 4096
"""One record we send, one portion OpenSSL is fed with.

The memory for both stays as large as the largest of them for as long as the connection lives:
after a large response an idle one was seen to hold 22 kB with this, 37 kB with records of
16 KiB, which save 0.3 ms of CPU for each megabyte.
"""

_RECORD_BYTES: Final = 16 * 1024
"""Most bytes in one record (RFC 8446 5.1)."""

_READ_BYTES: Final = 64 * 1024

_BATCH_BYTES: Final = 64 * 1024
"""What is encrypted for one system call, and held twice while the client does not take it."""

_TURN_BYTES: Final = 1024 * 1024

_BARREN_BYTES: Final = 64 * 1024
"""Bytes in a row that hold nothing for the application.

A record is at most 16.6 kB, and its last byte brings what it holds; what else there is (alerts,
key updates) is a few bytes once in an hour.
"""

_HANDSHAKE_BYTES: Final = 256 * 1024
"""OpenSSL takes certificates of up to 100 KiB."""

_HANDSHAKE_RECORD: Final = 0x16


class TlsStream:
    """The server's end of one TLS connection."""

    __slots__ = (
        "_barren",
        "_complete",
        "_context",
        "_ended",
        "_incoming",
        "_left",
        "_outgoing",
        "_owed",
        "_shut",
        "_sock",
        "_speaks_tls",
        "_ssl",
        "begun",
        "shaking",
    )

    # Made when the client has spoken: a silent connection costs what a plain one does.
    _incoming: ssl.MemoryBIO
    _outgoing: ssl.MemoryBIO
    _ssl: ssl.SSLObject

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._context = context
        self._left = b""
        # Encrypted, and not taken by the kernel yet.
        self._owed = 0
        # Bytes of the application in it, which `send` has not called sent.
        self._barren = 0
        self._speaks_tls = False
        self._complete = False
        self._shut = False
        self._ended = False
        self.begun = False
        """Whether a first byte has come."""
        self.shaking = True
        """Whether the handshake has not been seen to its end."""

    @property
    def established(self) -> bool:
        """Whether all of the handshake has come, and has left."""
        return self._complete and not self._left

    @property
    def partial(self) -> bool:
        """Whether something has come since there was last something for the application."""
        return self._barren > 0

    @property
    def unsent(self) -> bool:
        """Whether the kernel has yet to take something."""
        return bool(self._left)

    # -- in -----------------------------------------------------------------------------

    def receive(self, sock: socket.socket, size: int) -> tuple[bytes, int]:
        """Return what one read of up to ``size`` bytes brings the application, and 0.

        Empty at the end of the stream, also one that was not announced: a request cut short
        is known by its framing.  Raises BlockingIOError when nothing has come, during a
        handshake always; TlsError when the client breaks the rules, PlainHttpError when it
        speaks none; else OSError.
        """
        if self.shaking:
            return self._shake(sock)
        if self._incoming.pending or self._ssl.pending():
            # It came with the end of the handshake, so the poller will not tell of it.
            plain = self._decrypt()
            if plain:
                return plain, 0
            self._barren += 1
        if self._ended:
            return b"", 0
        limit = _PIECE_BYTES if self._barren else min(size, _READ_BYTES)
        data = sock.recv(limit)
        if not data:
            return b"", 0
        if len(data) <= _PIECE_BYTES:
            self._incoming.write(data)
            plain = self._decrypt()
        else:
            view = memoryview(data)
            pieces = []
            for start in range(0, len(data), _PIECE_BYTES):
                self._incoming.write(view[start : start + _PIECE_BYTES])
                pieces.append(self._decrypt())
            plain = b"".join(pieces)
        if plain:
            self._barren = 0
            return plain, 0
        if self._ended:
            return b"", 0
        self._barren += len(data)
        if self._barren > _BARREN_BYTES:
            raise TlsError("nothing but TLS's own messages")
        raise BlockingIOError

    def _shake(self, sock: socket.socket) -> tuple[bytes, int]:
        if not self._left and not self._complete:
            data = sock.recv(_PIECE_BYTES)
            if not data:
                return b"", 0
            if not self.begun:
                self._begin(data[0])
            self._barren += len(data)
            if self._barren > _HANDSHAKE_BYTES:
                raise TlsError("the handshake is too long")
            self._incoming.write(data)
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except OSError as error:
                # OpenSSL has made an alert of it.
                with suppress(OSError):
                    self._push()
                raise TlsError(_reason(error)) from error
            else:
                self._complete = True
                self._barren = 0
        self._push()
        raise BlockingIOError

    def _begin(self, first: int) -> None:
        self.begun = True
        if first != _HANDSHAKE_RECORD:
            # Methods are upper case (RFC 9110 9.1 names no other).
            if chr(first).isupper() and first < 0x80:
                raise PlainHttpError
            raise TlsError("what comes is not TLS")
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._speaks_tls = True
        self._ssl = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def _decrypt(self) -> bytes:
        """Return all there is for the application in what has been fed."""
        incoming, tls = self._incoming, self._ssl
        pieces = []
        try:
            while True:
                piece = tls.read(_RECORD_BYTES)
                if not piece:
                    self._end()
                    break
                pieces.append(piece)
                if not incoming.pending and not tls.pending():
                    break
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            with suppress(OSError):
                self._push()
            raise TlsError(_reason(error)) from error
        if self._outgoing.pending:
            # An answer to a key update, or a renegotiation's refusal.
            self._push()
            if len(self._left) > _BARREN_BYTES:
                raise TlsError("the client takes no answers")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _end(self) -> None:
        """Note the client's close_notify."""
        self._ended = True
        # From now on the kernel reports an end, as it does for plain connections: the poller
        # tells of it again when what came before has been answered.
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)

    # -- out ----------------------------------------------------------------------------

    def send(self, data: bytes | memoryview) -> int:
        """Encrypt and send; return how many bytes of ``data`` have left.

        Like OpenSSL over a socket: what was refused must be offered again, from the same byte
        and no less of it, since a part of it is encrypted already.  Raises BlockingIOError
        when nothing has left.
        """
        if self.shaking:
            # A refusal before there is anything to encrypt with: of plain HTTP, say.
            if self._speaks_tls:
                raise ConnectionAbortedError("no answer before the end of a handshake")
            return self._sock.send(data)
        if self._left or self._outgoing.pending:
            self._push()
            if self._left:
                raise BlockingIOError
        sent, self._owed = self._owed, 0
        if sent:
            return sent
        write, read = self._ssl.write, self._outgoing.read
        if len(data) <= _PIECE_BYTES:
            write(data)
            self._left = read()
            return self._pushed(len(data), 0)
        view = memoryview(data)[:_TURN_BYTES]
        while sent < len(view):
            batch = view[sent : sent + _BATCH_BYTES]
            pieces = []
            for start in range(0, len(batch), _PIECE_BYTES):
                write(batch[start : start + _PIECE_BYTES])
                pieces.append(read())
            self._left = b"".join(pieces)
            sent = self._pushed(len(batch), sent)
            if self._left:
                break
        return sent

    def _pushed(self, size: int, before: int) -> int:
        """Send what ``size`` bytes have been encrypted to; return all that has left."""
        self._push()
        if not self._left:
            return before + size
        self._owed = size
        if not before:
            raise BlockingIOError
        return before

    def sendfile(self, fd: int, offset: int, count: int) -> int:
        """Send a stretch of a file: the kernel cannot encrypt, so it is read."""
        return self.send(os.pread(fd, min(count, _TURN_BYTES), offset)) if count else 0

    def _push(self) -> None:
        """Send what the kernel takes of what is encrypted."""
        left = self._left
        if self._outgoing.pending:
            left += self._outgoing.read()
        self._left = left
        if left:
            try:
                self._left = left[self._sock.send(left) :]
            except (BlockingIOError, InterruptedError):
                return

    def finish(self, *, whole: bool) -> bool:
        """Send what is left, with close_notify when the last response is ``whole``.

        To the client that is what it means.  True when all has left; else to be called again.
        """
        if not self._speaks_tls:
            return True
        if whole and not self.shaking and not self._owed and not self._shut:
            self._shut = True
            # The client's own is not waited for.
            with suppress(OSError):
                self._ssl.unwrap()
        self._push()
        return not self._left


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    words = str(reason).replace("_", " ").lower() if reason else str(error)
    detail = getattr(error, "verify_message", "")
    return f"{words}: {detail}" if detail else words
