"""Collect every child that has ended, ours or not.

As PID 1 of a container the master inherits orphans it never heard of; they are reaped like
its own, and the caller tells them apart by pid. Never blocks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from resource import struct_rusage


@dataclass(frozen=True, slots=True)
class ChildExited:
    """One process that is gone for good, with what it used."""

    pid: int
    status: int  # as wait(2) reports it
    usage: struct_rusage


def reap() -> Iterator[ChildExited]:
    """All children that have ended by now."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield ChildExited(pid, status, usage)
