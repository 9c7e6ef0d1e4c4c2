"""A nameless file for bytes that are too many to keep in memory.

On a read-only root with no writable temporary directory the kernel's own anonymous file
stands in; that is memory again, but swappable, and counted by the container's limit.
"""

from __future__ import annotations

import os
from typing import IO

__all__ = ["open_spool"]


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
        return os.fdopen(os.memfd_create("gthreadsrv-spool"), "w+b")
