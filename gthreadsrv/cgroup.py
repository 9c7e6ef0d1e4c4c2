"""What the kernel's control groups allow this process: read from files, nothing else.

Runs in the master, once at each load of the settings. The root of the file system is a
parameter, so that tests can bring a container's view as a folder. A limit set on any
group around ours holds for us too, so whole paths are read and the smallest counts.
Must not decide anything; `sizing` does.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where they are by convention: a container may have the files but no mount of its own listed.
_USUAL = (
    ("", "/sys/fs/cgroup"),
    ("cpu", "/sys/fs/cgroup/cpu"),
    ("cpu", "/sys/fs/cgroup/cpu,cpuacct"),
)
_ESCAPED = re.compile(r"\\([0-7]{3})")


class CpuLimit(NamedTuple):
    """CPU time allowed in each period of wall time, and the file that says so."""

    quota_us: int
    period_us: int
    where: str

    @property
    def cores(self) -> float:
        """The limit in CPUs, parts included."""
        return self.quota_us / self.period_us

    @property
    def whole_cores(self) -> int:
        """The limit rounded up, at least 1."""
        return max(1, -(-self.quota_us // self.period_us))


def cpu_limit(root: str = "/") -> CpuLimit | None:
    """The tightest CPU limit on this process, cgroup v2 or v1; None where there is none."""
    own = _own_groups(root)
    seen: dict[str, CpuLimit] = {}
    for controller, mount_point, mount_root in _mounts(root):
        if controller not in own:
            continue
        for folder in _up(mount_point, _below(own[controller], mount_root)):
            limit = (_v2 if controller == "" else _v1)(root, folder)
            if limit is not None:
                seen[limit.where] = limit
    return min(seen.values(), key=lambda limit: limit.cores, default=None)


def _own_groups(root: str) -> dict[str, str]:
    """This process's group in each hierarchy, by controller; v2 has the empty name."""
    own = {}
    for line in _read(root, "/proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            own[controller] = path
    # Without the list the files may still be there, at their usual place.
    return own or {"": "/", "cpu": "/"}


def _mounts(root: str) -> Iterator[tuple[str, str, str]]:
    """Controller, mount point and the group that is mounted there."""
    yield from ((controller, point, "/") for controller, point in _USUAL)
    for line in _read(root, "/proc/self/mountinfo").splitlines():
        fields = line.split()
        if "-" not in fields[6:] or len(fields) < 10:
            continue
        kind, _, options = fields[fields.index("-", 6) + 1 :][:3]
        point, mount_root = _unescape(fields[4]), _unescape(fields[3])
        if kind == "cgroup2":
            yield "", point, mount_root
        elif kind == "cgroup" and "cpu" in options.split(","):
            yield "cpu", point, mount_root


def _below(path: str, mount_root: str) -> str:
    """Our group's path below what is mounted; the mount itself where ours is elsewhere."""
    prefix = mount_root.rstrip("/")
    if path != prefix and not path.startswith(f"{prefix}/"):
        return ""
    below = path[len(prefix) :].strip("/")
    return "" if ".." in below.split("/") else below


def _up(point: str, below: str) -> Iterator[str]:
    """Every folder from our group's to the mount point."""
    while below:
        yield f"{point}/{below}"
        below = os.path.dirname(below)
    yield point


def _v2(root: str, folder: str) -> CpuLimit | None:
    where = f"{folder}/cpu.max"
    quota, _, period = _read(root, where).strip().partition(" ")
    return _limit(quota, period, where)


def _v1(root: str, folder: str) -> CpuLimit | None:
    where = f"{folder}/cpu.cfs_quota_us"
    return _limit(_read(root, where).strip(), _read(root, f"{folder}/cpu.cfs_period_us"), where)


def _limit(quota: str, period: str, where: str) -> CpuLimit | None:
    """None for `max` (v2) and -1 (v1), which are no limit, and for anything unreadable."""
    period = period.strip()
    if not (quota.isdecimal() and period.isdecimal() and int(quota) and int(period)):
        return None
    return CpuLimit(int(quota), int(period), where)


def _read(root: str, path: str) -> str:
    try:
        with open(root.rstrip("/") + path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:  # not there, or a sandbox refuses: no limit can be read there
        return ""


def _unescape(path: str) -> str:
    """Mountinfo writes blanks and the like as three octal digits."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), path)
