"""The file that holds the master's pid, for scripts that signal it.

Written whole or not at all; a file left by a dead process is replaced, one whose process lives
is refused. Runs in the master only.
"""

from __future__ import annotations

import os
from contextlib import suppress

from gthreadsrv.errors import GthreadsrvError


class PidFile:
    """One pid file, from construction until `remove`."""

    def __init__(self, path: str) -> None:
        """Write the file; GthreadsrvError says in one line why that is refused."""
        self.path = path
        other = _read_pid(path)
        if other is not None and other != os.getpid() and _alive(other):
            raise GthreadsrvError(
                f"pidfile: {path} names process {other}, which is running (set by --pid); "
                "stop that server first, or remove the file if it is another program"
            )
        draft = f"{path}.{os.getpid()}.tmp"
        try:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
            with os.fdopen(fd, "w") as file:
                file.write(f"{os.getpid()}\n")
            os.replace(draft, path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(draft)
            raise GthreadsrvError(
                f"pidfile: cannot write {path}: {error.strerror} (set by --pid); "
                "name a file in a directory that may be written to"
            ) from None

    def move(self, path: str, predecessor: int) -> None:
        """Take over the name from a predecessor that has left; GthreadsrvError when it is taken."""
        other = _read_pid(path)
        if other is not None and other != predecessor and _alive(other):
            raise GthreadsrvError(
                f"pidfile: {path} names process {other}, which is running; {self.path} stays"
            )
        try:
            os.replace(self.path, path)
        except OSError as error:
            raise GthreadsrvError(
                f"pidfile: cannot rename {self.path} to {path}: {error.strerror}"
            ) from None
        self.path = path

    def remove(self) -> None:
        """Remove it, unless another process has taken it over."""
        if _read_pid(self.path) == os.getpid():
            with suppress(OSError):
                os.unlink(self.path)


def _read_pid(path: str) -> int | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(32).strip()
    except OSError:
        return None
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
