"""wsgi.file_wrapper: a file that the server may send by itself (PEP 3333)."""

from __future__ import annotations

import io
import os
import stat
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FileWrapper"]

_BLOCK_BYTES = 64 * 1024


class FileWrapper:
    """Iterates over a file; with a real file below, the kernel copies it (sendfile)."""

    __slots__ = ("_block", "_file", "close")

    def __init__(self, filelike: IO[bytes], block_size: int = _BLOCK_BYTES) -> None:
        self._file = filelike
        self._block = block_size
        close = getattr(filelike, "close", None)
        self.close = close if callable(close) else _nothing

    def __iter__(self) -> Iterator[bytes]:
        read = self._file.read
        while data := read(self._block):
            yield data

    def span(self) -> tuple[int, int, int] | None:
        """Return (fd, offset, bytes to the end) of a regular file, else None.

        The file object's own position counts: an application may have read or sought.
        """
        # Only what reads straight from its descriptor: a GzipFile has a fileno() too.
        file: Any = getattr(self._file, "file", self._file)
        raw = getattr(file, "raw", file)
        if not isinstance(raw, io.FileIO):
            return None
        try:
            fd = file.fileno()
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                return None
            offset = file.tell()
        except (OSError, ValueError):
            # Closed, or a descriptor that cannot seek.
            return None
        return fd, offset, max(0, info.st_size - offset)


def _nothing() -> None:
    """Stand in for the close() of a file that has none."""
