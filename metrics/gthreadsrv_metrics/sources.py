"""What a collector is told about the server it looks at, beside the scoreboard.

The master fills one ``Sources`` before it forks and publishes it with the board, so that
the exporter and an application that mounts ``wsgi_app`` find both without passing anything
through the application's code. Plain values and callables: tests put fakes in their place.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gthreadsrv_metrics.kernel import ListenerSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gthreadsrv_metrics.scoreboard import Scoreboard

__all__ = ["ListenerSource", "Published", "Sources", "current", "publish"]


def _affinity() -> int:
    """Count the CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to look. Descriptors of listeners must stay open in the process that looks."""

    listeners: tuple[ListenerSource, ...] = ()
    # The labels of build_info: version, python, parser, worker_class.
    build: Mapping[str, str] = field(default_factory=dict)
    app_directory: str | None = None
    # The share of busy threads from which on /readyz sends clients elsewhere; None is never.
    ready_max_saturation: float | None = None
    # CPUs the server may use, where no control group sets a limit.
    cores: float = field(default_factory=lambda: float(_affinity()))
    master_pid: int = field(default_factory=os.getpid)
    proc_root: str = "/proc"
    cgroup_root: str = "/sys/fs/cgroup"
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True, eq=False)  # by identity: what is published is not a value
class Published:
    """A server's board and the sources that go with it."""

    board: Scoreboard
    sources: Sources


_published: list[Published] = []


def publish(board: Scoreboard, sources: Sources) -> None:
    """Make them this process's and its children's; again when a reload changed them."""
    _published[:] = [Published(board, sources)]


def current() -> Published | None:
    """Return the server this process belongs to."""
    return _published[0] if _published else None
