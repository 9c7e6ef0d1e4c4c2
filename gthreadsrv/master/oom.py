"""How many processes the kernel's OOM killer has ended in this container.

A KILL by the kernel looks like any other; only the cgroup's own counter tells. Runs in the
master, which reads it when a worker was killed and not before. Without a readable counter
nothing is ever blamed on memory.
"""

from __future__ import annotations

import os
from typing import Final

_ROOT: Final = "/sys/fs/cgroup"
_V2_FILE: Final = "memory.events"
_V1_FILE: Final = "memory.oom_control"


class OomCounter:
    """Reads the counter of our own cgroup and tells how far it has moved."""

    def __init__(self, root: str = _ROOT, membership: str = "/proc/self/cgroup") -> None:
        self._path = _find(root, membership)
        self._seen = self._read()

    def moved(self) -> int:
        """OOM kills since the last call, or since the start."""
        before, self._seen = self._seen, self._read()
        return max(0, self._seen - before)

    def _read(self) -> int:
        if self._path is None:
            return 0
        try:
            with open(self._path, encoding="ascii") as file:
                for line in file:
                    name, _, value = line.partition(" ")
                    if name == "oom_kill":
                        return int(value)
        except (OSError, ValueError):
            pass
        return 0


def _find(root: str, membership: str) -> str | None:
    """The counter's file: v2 has one hierarchy with an empty name, v1 one for memory."""
    try:
        with open(membership, encoding="ascii", errors="replace") as file:
            entries = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return None
    candidates = []
    for entry in entries:
        if len(entry) == 3 and "memory" in entry[1].split(","):
            candidates.append((os.path.join(root, "memory"), entry[2], _V1_FILE))
        elif len(entry) == 3 and entry[1] == "":
            candidates.append((root, entry[2], _V2_FILE))
    for base, path, name in candidates:
        # In a container the path may be the host's while the mount shows our own group as its root.
        for place in (path.lstrip("/"), ""):
            found = os.path.join(base, place, name)
            if os.path.exists(found):
                return found
    return None
