"""A request body on its way in: memory first, a nameless file when it grows.

The leader fills it as bytes come, so a slow upload holds no thread; the application then
reads a complete file.
"""

from __future__ import annotations

import io
from contextlib import suppress
from typing import IO, Final

from gthreadsrv.worker.allowance import Allowance
from gthreadsrv.worker.spool import open_spool

__all__ = ["ALLOWANCE", "MEMORY_MAX_BYTES", "UNCOUNTED_BYTES", "Upload"]

MEMORY_MAX_BYTES: Final = 1024 * 1024
"""A body up to this size stays in memory.  1 MiB holds JSON and forms; photos spill."""

UNCOUNTED_BYTES: Final = 64 * 1024
"""Up to here it does so in any case: most bodies are this small, and need not ask."""

SHARED_MAX_BYTES: Final = 64 * 1024 * 1024
"""What the others may keep in memory in all, in one worker, while they come."""

ALLOWANCE: Final = Allowance(SHARED_MAX_BYTES)


class Upload:
    """Collects one body."""

    __slots__ = ("_counted", "_file", "_first", "_more", "size")

    def __init__(self) -> None:
        self._first = b""
        # Not a list: pieces are as small as the client likes, and an object is 33 bytes more.
        self._more = bytearray()
        self._counted = 0
        self._file: IO[bytes] | None = None
        self.size = 0
        """Decoded bytes so far."""

    def write(self, data: bytes) -> None:
        """Add ``data``.  Raises OSError when the disk is full."""
        self.size += len(data)
        if self._file is not None:
            self._file.write(data)
        elif self.size <= UNCOUNTED_BYTES or self._may_stay():
            if self._first:
                self._more += data
            else:
                self._first = data
        else:
            file = open_spool()
            self._file = file
            file.write(self._first)
            file.write(self._more)
            file.write(data)
            self._let_go()

    def _may_stay(self) -> bool:
        if self.size > MEMORY_MAX_BYTES or not ALLOWANCE.take(self.size - self._counted):
            return False
        self._counted = self.size
        return True

    def _let_go(self) -> None:
        """Keep nothing in memory."""
        self._first = b""
        self._more = bytearray()
        if self._counted:
            ALLOWANCE.give(self._counted)
            self._counted = 0

    def seal(self) -> None:
        """Note that all has come.  Raises OSError when the disk is full."""
        if self._file is not None:
            # Writes the file's last bytes, while a failure can still be answered.
            self._file.seek(0)

    def finish(self) -> IO[bytes]:
        """Return the sealed body as a file at its beginning; the caller closes it."""
        if self._file is not None:
            return self._file
        # Without a copy where it came in one piece. A thread has it now: there are few.
        whole = self._first + self._more if self._more else self._first
        if self._more or self._counted:
            self._let_go()
        return io.BytesIO(whole)

    def discard(self) -> None:
        """Throw away what came: the request ends here."""
        self._let_go()
        if self._file is not None:
            # A full disk refuses the last bytes again; the descriptor goes all the same.
            with suppress(OSError):
                self._file.close()
