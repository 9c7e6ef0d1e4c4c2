"""A nameless file for bytes that are too many to keep in memory.

On a read-only root with no writable temporary directory the kernel's own anonymous file
stands in. That is memory again, and counts against the container's limit: so all of a worker's
together hold no more than `ALLOWANCE`, and a client that sends more meets a full disk.
"""

from __future__ import annotations

import errno
import io
import os
from typing import IO, TYPE_CHECKING, Final

from gthreadsrv.worker.allowance import Allowance

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["ALLOWANCE", "NoRoomError", "open_spool"]

ALLOWANCE: Final = Allowance(64 * 1024 * 1024)
"""What a worker's files in memory may hold in all."""


class NoRoomError(OSError):
    """The allowance is used up: of the worker's clients together, so there may be room later."""


def open_spool() -> IO[bytes]:
    """Return a new read-write file that vanishes when it is closed.

    Raises OSError where neither a temporary directory nor memfd_create(2) is to be had.
    """
    # It brings shutil, bz2 and lzma, 400 KiB that most workers never need.
    import tempfile

    try:
        return tempfile.TemporaryFile(prefix="gthreadsrv-")
    except OSError:
        if not hasattr(os, "memfd_create"):
            raise
        return io.BufferedRandom(_MemoryFile(os.memfd_create("gthreadsrv-spool"), "r+b"))


class _MemoryFile(io.FileIO):
    """A file in memory, written from its beginning to its end, once."""

    _counted = 0

    def write(self, data: ReadableBuffer) -> int:
        count = memoryview(data).nbytes
        if not ALLOWANCE.take(count):
            raise NoRoomError(
                errno.ENOSPC, "no room in memory, and there is no writable temporary directory"
            )
        self._counted += count
        return super().write(data)

    def close(self) -> None:
        counted, self._counted = self._counted, 0
        ALLOWANCE.give(counted)
        super().close()
