"""Whom the kernel's OOM killer takes first: a worker, then the exporter, the master last.

The killer goes by size, and without more to go by the master is as large as a small worker.  A
second kill a few milliseconds after the first, before that one's memory is free, was seen to take
the master, and with it the whole server.  A lost worker is replaced.

A process may always make itself a better victim (proc(5)); it needs no privilege for that.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import Literal

SHARE: Final = {"worker": 100, "exporter": 50}
"""In thousandths of the memory there is, added to what a process uses.  In a container of 128 MiB
a tenth is as much as a worker and its master may differ by; their processes share the rest."""

MOST: Final = 1000  # linux/oom.h: OOM_SCORE_ADJ_MAX
_FILE: Final = "/proc/self/oom_score_adj"


def go_before_master(role: Literal["worker", "exporter"]) -> None:
    """Add this process's share to what it has from the master; where there is no such file, not."""
    # Inherited by whatever the application starts, which is no more dear than the worker.
    with suppress(OSError, ValueError), open(_FILE, "r+") as file:
        score = min(MOST, int(file.read()) + SHARE[role])
        file.seek(0)
        file.write(f"{score}\n")
