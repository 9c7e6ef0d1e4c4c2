"""A file that several processes and threads append whole lines to.

Opened by the master before it forks, so that workers that gave up root still hold it,
and reopened by each process on USR1 (log rotation). No buffer and no lock: one line is
one write(2), which the kernel keeps whole on a file opened for appending, so nothing
can be torn by threads or lost by fork and crash. Must not format anything.
"""

from __future__ import annotations

import os
import stat

STANDARD = "-"

# POSIX: longer writes to a pipe may be mixed with those of others.
PIPE_WHOLE_BYTES = 4096

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY


class LogFile:
    """An open log: a path, or a standard stream that is never opened or closed."""

    def __init__(self, path: str, standard_fd: int, owner: tuple[int, int] | None = None) -> None:
        """Open `path`, or take `standard_fd` for `-`; raises OSError.

        `owner` (uid, gid, -1 for as it is) gets the file, so that workers without
        root can reopen it.
        """
        self.path = path
        self._owner = owner
        self.fd = standard_fd if path == STANDARD else self._open()
        self.whole_lines = _is_file(self.fd)
        """Whether a line of any length stays whole; else only up to PIPE_WHOLE_BYTES."""

    def is_terminal(self) -> bool:
        """Whether a person reads it as it is written."""
        return os.isatty(self.fd)

    def write(self, line: bytes) -> None:
        """Append one line, by one system call; raises OSError."""
        os.write(self.fd, line)

    def reopen(self) -> None:
        """Go on in a new file where the old one was moved away; raises OSError, keeping the old."""
        if self.path == STANDARD:
            return
        fresh = self._open()
        # The number stays, so threads that are writing never see a closed one.
        os.dup2(fresh, self.fd, inheritable=False)
        os.close(fresh)

    def close(self) -> None:
        """Close a file of our own."""
        if self.path != STANDARD:
            os.close(self.fd)

    def _open(self) -> int:
        fd = os.open(self.path, _FLAGS, 0o644)
        if self._owner is not None and os.geteuid() == 0 and _is_file(fd) and self._is_itself(fd):
            os.fchown(fd, *self._owner)
        return fd

    def _is_itself(self, fd: int) -> bool:
        """Whether the path is the open file, not a link: that may lead to a file of root's."""
        try:
            named = os.lstat(self.path)
        except OSError:
            return False
        found = os.fstat(fd)
        return (named.st_dev, named.st_ino) == (found.st_dev, found.st_ino)


def _is_file(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:  # a standard stream may be closed
        return False
