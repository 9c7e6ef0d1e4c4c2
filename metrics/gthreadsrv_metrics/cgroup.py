"""The limits a container runs under and how often it met them, from cgroup v1 or v2.

Runs in the exporter at every scrape, and in the master where it scales by them. Limits may sit
on any level above a process, and a limit matters beside the usage of its own level, so every
visible level is looked at. What has no limit, or cannot be read, is None and its series absent.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

__all__ = ["CgroupReading", "read_cgroup"]

# cgroup v1 says "unlimited" as 2**63 rounded down to a page.
_V1_UNLIMITED: Final = 1 << 62
_V1_CPU_MOUNTS: Final = ("cpu", "cpu,cpuacct", "cpuacct,cpu")


class CgroupReading(NamedTuple):
    """The container's state; None is not limited or not to be known."""

    cpu_limit_cores: float | None = None
    throttled_s: float | None = None
    throttled_periods: int | None = None
    memory_usage_bytes: int | None = None
    memory_limit_bytes: int | None = None
    oom_kills: int | None = None
    # Of the usage: file pages not used of late, which the kernel takes back when it must.
    memory_reclaimable_bytes: int | None = None

    @property
    def memory_left_bytes(self) -> int | None:
        """What may still be had below the limit; None where there is none."""
        return _Memory(
            self.memory_usage_bytes, self.memory_limit_bytes, None, self.memory_reclaimable_bytes
        ).left


class _Cpu(NamedTuple):
    """One level's CPU control."""

    limit_cores: float | None
    throttled_s: float | None
    throttled_periods: int | None


class _Memory(NamedTuple):
    """One level's memory control."""

    usage: int | None
    limit: int | None
    oom_kills: int | None
    reclaimable: int | None

    @property
    def left(self) -> int | None:
        """What may still be had below the limit; None where there is none."""
        if self.limit is None or self.usage is None:
            return None
        return max(self.limit - (self.usage - (self.reclaimable or 0)), 0)


def read_cgroup(root: str = "/sys/fs/cgroup", proc_root: str = "/proc") -> CgroupReading:
    """Read the groups this process is in, the nearest first."""
    paths = _own_paths(proc_root)
    if os.path.exists(f"{root}/cgroup.controllers"):
        levels = _levels(root, paths.get("", "/"))
        return _combine([_v2_cpu(d) for d in levels], [_v2_memory(d) for d in levels])
    mount = next((m for m in _V1_CPU_MOUNTS if os.path.isdir(f"{root}/{m}")), "cpu")
    return _combine(
        [_v1_cpu(d) for d in _levels(f"{root}/{mount}", paths.get("cpu", "/"))],
        [_v1_memory(d) for d in _levels(f"{root}/memory", paths.get("memory", "/"))],
    )


def _combine(cpus: list[_Cpu], memories: list[_Memory]) -> CgroupReading:
    """Let the tightest level speak for each limit."""
    limited = [m for m in memories if m.left is not None]
    nearest = memories[0] if memories else _Memory(None, None, None, None)
    memory = min(limited, key=lambda m: m.left or 0, default=nearest)
    # Each level counts its own throttling, and a worker is held up by any of them.
    seconds = [cpu.throttled_s for cpu in cpus if cpu.throttled_s is not None]
    periods = [cpu.throttled_periods for cpu in cpus if cpu.throttled_periods is not None]
    return CgroupReading(
        cpu_limit_cores=min((c.limit_cores for c in cpus if c.limit_cores), default=None),
        throttled_s=sum(seconds) if seconds else None,
        throttled_periods=sum(periods) if periods else None,
        memory_usage_bytes=memory.usage,
        memory_limit_bytes=memory.limit,
        oom_kills=nearest.oom_kills,
        memory_reclaimable_bytes=memory.reclaimable,
    )


def _own_paths(proc_root: str) -> dict[str, str]:
    """Return controller -> path; v2's one hierarchy has the empty name."""
    paths = {}
    for line in (_text(f"{proc_root}/self/cgroup") or "").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            paths.update(dict.fromkeys(parts[1].split(","), parts[2]))
    return paths


def _levels(mount: str, path: str) -> list[str]:
    """Return the directories from a group up to the mount's root.

    Inside a container the path is often the host's while only the container's own group is
    mounted, at the root: levels that do not exist here are left out.
    """
    parts = [part for part in path.split("/") if part and part != ".."]
    candidates = ["/".join((mount, *parts[:depth])) for depth in range(len(parts), -1, -1)]
    return [directory for directory in candidates if os.path.isdir(directory)]


def _v2_cpu(directory: str) -> _Cpu:
    quota, _, period = (_text(f"{directory}/cpu.max") or "").partition(" ")
    stat = _table(f"{directory}/cpu.stat")
    throttled_us = stat.get("throttled_usec")
    return _Cpu(
        int(quota) / int(period) if quota.isdigit() and int(period or 0) else None,
        None if throttled_us is None else throttled_us / 1e6,
        stat.get("nr_throttled"),
    )


def _v1_cpu(directory: str) -> _Cpu:
    quota = _number(f"{directory}/cpu.cfs_quota_us")
    period = _number(f"{directory}/cpu.cfs_period_us")
    stat = _table(f"{directory}/cpu.stat")
    throttled_ns = stat.get("throttled_time")
    return _Cpu(
        quota / period if quota and quota > 0 and period else None,  # -1: no quota
        None if throttled_ns is None else throttled_ns / 1e9,
        stat.get("nr_throttled"),
    )


def _v2_memory(directory: str) -> _Memory:
    return _Memory(
        _number(f"{directory}/memory.current"),
        _number(f"{directory}/memory.max"),  # "max" is no number: no limit
        _table(f"{directory}/memory.events").get("oom_kill"),
        _table(f"{directory}/memory.stat").get("inactive_file"),
    )


def _v1_memory(directory: str) -> _Memory:
    limit = _number(f"{directory}/memory.limit_in_bytes")
    return _Memory(
        _number(f"{directory}/memory.usage_in_bytes"),
        limit if limit is not None and limit < _V1_UNLIMITED else None,
        _table(f"{directory}/memory.oom_control").get("oom_kill"),
        _table(f"{directory}/memory.stat").get("total_inactive_file"),
    )


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def _number(path: str) -> int | None:
    text = _text(path) or ""
    return int(text) if text.lstrip("-").isdigit() else None


def _table(path: str) -> dict[str, int]:
    """Return a "name number" file."""
    pairs = (line.split() for line in (_text(path) or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
