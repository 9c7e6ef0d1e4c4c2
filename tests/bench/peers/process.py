"""What a server uses, from /proc: CPU time and memory of all its processes.

A server is started as the leader of a session, so its processes are those of the session and their
descendants, whatever they are called. Nothing here is particular to one server.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Stat:
    """The part of /proc/PID/stat that is needed; ticks are its own and its dead children's."""

    pid: int
    parent: int
    session: int
    ticks: int


def parse_stat(text: str) -> Stat:
    """One line of /proc/PID/stat; the name, in brackets, may hold blanks and brackets itself."""
    pid, _, rest = text.partition(" (")
    fields = rest.rpartition(") ")[2].split()
    # proc(5): state is field 3, so field N is at N - 3; 14 to 17 are the times.
    return Stat(int(pid), int(fields[1]), int(fields[3]), sum(map(int, fields[11:15])))


def read_all(proc: Path = PROC) -> list[Stat]:
    """Every process there is."""
    found = []
    for folder in proc.iterdir():
        if folder.name.isdigit():
            try:
                found.append(parse_stat((folder / "stat").read_text()))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def members(stats: Iterable[Stat], leader: int) -> list[Stat]:
    """Those of the leader's session, and their descendants in other sessions."""
    rest = {stat.pid: stat for stat in stats}
    found: dict[int, Stat] = {}
    while True:
        more = [s for s in rest.values() if s.session == leader or s.parent in found]
        if not more:
            return list(found.values())
        for stat in more:
            found[stat.pid] = rest.pop(stat.pid)


def cpu_s(leader: int) -> float:
    """CPU time so far of the server, its dead children included."""
    return sum(stat.ticks for stat in members(read_all(), leader)) / TICKS_PER_S


def fine_cpu_s(leader: int) -> float:
    """The same of the living threads only, in nanoseconds: for what is less than a tick."""
    total_ns = 0
    for stat in members(read_all(), leader):
        for task in (PROC / str(stat.pid) / "task").iterdir():
            total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def parse_pss_kib(text: str) -> int:
    """The Pss line of smaps_rollup: memory, where shared pages count by share."""
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def pss_kib(leader: int) -> int:
    """Memory of the server."""
    stats = members(read_all(), leader)
    return sum(parse_pss_kib((PROC / str(s.pid) / "smaps_rollup").read_text()) for s in stats)


def core_busy_s(text: str, core: int) -> float:
    """Time in which a core did not idle, by /proc/stat: work of everybody, and stolen time."""
    for line in text.splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            return (user + nice + system + irq + softirq + steal) / TICKS_PER_S
    raise ValueError(f"/proc/stat knows no cpu{core}")


def cores_busy_s(cores: Iterable[int]) -> float:
    """The same of several, now."""
    text = (PROC / "stat").read_text()
    return sum(core_busy_s(text, core) for core in cores)
