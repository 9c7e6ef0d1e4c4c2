"""What a client has yet to take of a response.

Exists only while a client is slower than we are.  It holds memory up to a high-water
mark and a nameless file beyond, so that a slow reader costs neither a thread nor
unbounded memory.  Filled by the serving thread, emptied by it or by the leader, never by
both at once: the connection's state says whose it is.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Final, Protocol, TypeVar

from gthreadsrv.worker.allowance import Allowance
from gthreadsrv.worker.spool import open_spool

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = [
    "ALLOWANCE",
    "HIGH_WATER_BYTES",
    "MEMORY_MAX_BYTES",
    "SPILL_MAX_BYTES",
    "Outbox",
    "sendfile",
]

HIGH_WATER_BYTES = 256 * 1024
"""Copied bytes kept in memory per connection.  One socket buffer's worth."""

MEMORY_MAX_BYTES = 64 * 1024 * 1024
"""Kept in memory for all connections of a worker.  A download or two are not written to a file
first; hundreds of clients that do not read are."""

SPILL_MAX_BYTES = 256 * 1024 * 1024
"""Bytes of one response kept in a file; past it the application's thread waits."""

# One turn of the poller for one connection: others wait meanwhile.
_TURN_BYTES = 1024 * 1024


class Taker(Protocol):
    """A non-blocking socket, or what behaves like one."""

    def send(self, data: memoryview, /) -> int:
        """Take some of ``data``, or raise BlockingIOError."""


_Taker = TypeVar("_Taker", bound=Taker)


def sendfile(sock: socket.socket, fd: int, offset: int, count: int) -> int:
    """Have the kernel send a stretch of a file."""
    return os.sendfile(sock.fileno(), fd, offset, count)


ALLOWANCE: Final = Allowance(MEMORY_MAX_BYTES)


class _FilePart:
    """A stretch of a file, with a descriptor of its own."""

    __slots__ = ("count", "fd", "offset")

    def __init__(self, fd: int, offset: int, count: int) -> None:
        self.fd = fd
        self.offset = offset
        self.count = count


class Outbox:
    """A queue of bytes and file stretches."""

    __slots__ = ("_memory", "_parts", "_spill", "_spill_end", "_spill_part")

    def __init__(self) -> None:
        self._parts: deque[memoryview | _FilePart] = deque()
        self._memory = 0
        self._spill: IO[bytes] | None = None
        self._spill_part: _FilePart | None = None
        self._spill_end = 0

    @property
    def full(self) -> bool:
        """Whether the application must wait before it may add more."""
        return self._spill_end >= SPILL_MAX_BYTES

    def keep(self, data: bytes | memoryview) -> None:
        """Add bytes that nobody else holds on to: the first rest of a send."""
        view = memoryview(data)
        if not ALLOWANCE.take(_weight(view)):
            with suppress(OSError):
                self._write(view)
                return
            # No disk either: the response has begun, so memory it is.
            ALLOWANCE.overdraw(_weight(view))
        self._append(view)

    def add(self, data: bytes | memoryview) -> None:
        """Add bytes; past the high-water mark they go to a file.  Raises OSError."""
        small = self._spill_part is None and self._memory + len(data) <= HIGH_WATER_BYTES
        view = memoryview(data)
        if small and ALLOWANCE.take(_weight(view)):
            self._append(view)
        else:
            self._write(data)

    def _append(self, view: memoryview) -> None:
        self._memory += len(view)
        self._parts.append(view)
        # What is added next comes behind it.
        self._spill_part = None

    def _write(self, data: bytes | memoryview) -> None:
        if self._spill is None:
            self._spill = open_spool()
        self._spill.seek(self._spill_end)
        self._spill.write(data)
        self._spill.flush()
        part = self._spill_part
        if part is None:
            part = self._spill_part = _FilePart(os.dup(self._spill.fileno()), self._spill_end, 0)
            self._parts.append(part)
        part.count += len(data)
        self._spill_end += len(data)

    def add_file(self, fd: int, offset: int, count: int) -> None:
        """Add a stretch of a file.  The descriptor is duplicated: the caller may close his."""
        self._parts.append(_FilePart(os.dup(fd), offset, count))
        self._spill_part = None

    def flush(self, sock: _Taker, send_file: Callable[[_Taker, int, int, int], int]) -> bool:
        """Send what the kernel takes; True when nothing is left.

        What was refused is offered again, from the same byte and no less of it.
        Raises OSError when the client has gone, ConnectionAbortedError when a file has
        become shorter than was promised.
        """
        turn = _TURN_BYTES
        parts = self._parts
        while parts and turn > 0:
            part = parts[0]
            try:
                if isinstance(part, memoryview):
                    sent = sock.send(part)
                else:
                    sent = send_file(sock, part.fd, part.offset, min(part.count, turn))
            except (BlockingIOError, InterruptedError):
                return False
            turn -= sent
            if isinstance(part, memoryview):
                self._memory -= sent
                if sent < len(part):
                    parts[0] = part[sent:]
                    continue
                ALLOWANCE.give(_weight(part))
            else:
                if not sent and part.count:
                    raise ConnectionAbortedError("a file became shorter while it was sent")
                part.offset += sent
                part.count -= sent
                if part.count:
                    continue
                os.close(part.fd)
                if part is self._spill_part:
                    self._spill_part = None
            parts.popleft()
        return not parts

    def close(self) -> None:
        """Give back the descriptors; what is unsent is lost."""
        for part in self._parts:
            if isinstance(part, _FilePart):
                os.close(part.fd)
            else:
                ALLOWANCE.give(_weight(part))
        self._parts.clear()
        if self._spill is not None:
            # A full disk refuses once more what it refused before; the descriptor goes.
            with suppress(OSError):
                self._spill.close()
            self._spill = None


def _weight(view: memoryview) -> int:
    """What a part keeps alive: the object that it is a part of."""
    whole = view.obj
    return len(whole) if isinstance(whole, bytes) else len(view)
