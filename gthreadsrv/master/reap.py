"""Collect every child that has ended, ours or not.

As PID 1 of a container the master inherits orphans it never heard of; they are reaped like
its own, and the caller tells them apart by pid. Never blocks.

A KILL by the kernel's OOM killer looks like any other; the cgroup's own counter tells.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from gthreadsrv_metrics.cgroup import read_cgroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from resource import struct_rusage


class ChildExited(NamedTuple):
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


def cgroup_oom_kills() -> int:
    """Processes of this container that the kernel has killed for memory; 0 where unknown."""
    return read_cgroup().oom_kills or 0


class OomCounter:
    """How far the count has moved; read when a worker was killed, not before."""

    __slots__ = ("_read", "_seen")

    def __init__(self, read: Callable[[], int] = cgroup_oom_kills) -> None:
        self._read = read
        self._seen = read()

    def moved(self) -> int:
        """OOM kills since the last call, or since the start."""
        before, self._seen = self._seen, self._read()
        return max(0, self._seen - before)
