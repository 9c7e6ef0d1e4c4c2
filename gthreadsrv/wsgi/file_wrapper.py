"""wsgi.file_wrapper: a file that the server may send by itself (PEP 3333)."""

from __future__ import annotations

import io
import os
import stat
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FileWrapper", "ReadFileWrapper"]

_BLOCK_BYTES = 64 * 1024

_BUFFERED = (io.BufferedReader, io.BufferedRandom)


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
        file: Any = self._file
        inner = getattr(file, "file", None)
        if inner is not None and _reads_for(file, inner):
            # What Django and tempfile put around a file.
            file = inner
        # Only what reads straight from its descriptor: a GzipFile has a fileno() too, and a
        # subclass may decipher what it reads.
        raw = file.raw if type(file) in _BUFFERED else file
        if type(raw) is not io.FileIO:
            return None
        try:
            file.flush()  # what was written and is still in the buffer would be missed
            fd = file.fileno()
            info = os.fstat(fd)
            offset = file.tell()
        except (OSError, ValueError):
            # Closed, or a descriptor that cannot seek.
            return None
        if not stat.S_ISREG(info.st_mode) or not info.st_size:
            # Files of /proc claim to be empty, and are not.
            return None
        return fd, offset, max(0, info.st_size - offset)


class ReadFileWrapper(FileWrapper):
    """A file that is always read into the process: --no-sendfile."""

    __slots__ = ()

    def span(self) -> tuple[int, int, int] | None:
        """Return None: nothing for the kernel to copy."""
        return None


def _reads_for(outer: object, inner: object) -> bool:
    """Say whether reading ``outer`` is reading ``inner``; tempfile wraps the method once more."""
    read = getattr(outer, "read", None)
    return getattr(read, "__wrapped__", read) == getattr(inner, "read", None)


def _nothing() -> None:
    """Stand in for the close() of a file that has none."""
