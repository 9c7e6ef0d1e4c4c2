"""A request body on its way in: memory first, a nameless file when it grows.

The leader fills it as bytes come, so a slow upload holds no thread; the application then
reads a complete file.
"""

from __future__ import annotations

import io
from contextlib import suppress
from typing import IO

from gthreadsrv.worker.spool import open_spool

__all__ = ["MEMORY_MAX_BYTES", "Upload"]

MEMORY_MAX_BYTES = 1024 * 1024
"""A body up to this size stays in memory.  1 MiB holds JSON and forms; photos spill."""


class Upload:
    """Collects one body."""

    __slots__ = ("_chunks", "_file", "size")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._file: IO[bytes] | None = None
        self.size = 0
        """Decoded bytes so far."""

    def write(self, data: bytes) -> None:
        """Add ``data``.  Raises OSError when the disk is full."""
        self.size += len(data)
        if self._file is not None:
            self._file.write(data)
        elif self.size <= MEMORY_MAX_BYTES:
            self._chunks.append(data)
        else:
            file = open_spool()
            self._file = file
            file.writelines(self._chunks)
            file.write(data)
            self._chunks = []

    def seal(self) -> None:
        """Note that all has come.  Raises OSError when the disk is full."""
        if self._file is not None:
            # Writes the file's last bytes, while a failure can still be answered.
            self._file.seek(0)

    def finish(self) -> IO[bytes]:
        """Return the sealed body as a file at its beginning; the caller closes it."""
        if self._file is not None:
            return self._file
        chunks = self._chunks
        return io.BytesIO(chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def discard(self) -> None:
        """Throw away what came: the request ends here."""
        self._chunks = []
        if self._file is not None:
            # A full disk refuses the last bytes again; the descriptor goes all the same.
            with suppress(OSError):
                self._file.close()
