"""What /proc knows about worker processes and threads.

Functions for one figure of one process, and two readers. ``ProcessReader`` runs in the exporter
and looks at workers from outside, so it still answers when a worker holds its interpreter.
``OwnTimes`` runs on a worker's watchdog thread and moves what would die with the process (CPU
and waiting of each thread) into the slot row. A file that is missing, refused or gone is None,
never an error.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gthreadsrv_metrics.slot_row import SlotRow

__all__ = [
    "OwnTimes",
    "ProcessReader",
    "ProcessReading",
    "cpu_seconds",
    "proportional_bytes",
    "resident_bytes",
]

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
# Walking a process's page tables for its proportional memory takes milliseconds and holds
# its memory lock. Each worker is asked at most this often, and a scrape spends this much.
_MEMORY_PERIOD_S: Final = 10.0
_MEMORY_BUDGET_S: Final = 0.010


def cpu_seconds(pid: int, root: str = "/proc") -> tuple[float, float] | None:
    """User and system CPU with that of children it has waited for, as wait4 will report."""
    text = _read(f"{root}/{pid}/stat")
    # The command, in parentheses, may itself contain both blanks and parentheses.
    fields = text.rpartition(")")[2].split() if text else []
    if len(fields) < 15:
        return None
    utime, stime, cutime, cstime = map(int, fields[11:15])
    return (utime + cutime) / _TICKS_PER_S, (stime + cstime) / _TICKS_PER_S


def resident_bytes(pid: int, root: str = "/proc") -> int | None:
    """Memory in RAM, pages it shares included in full."""
    fields = (_read(f"{root}/{pid}/statm") or "").split()
    return int(fields[1]) * _PAGE_BYTES if len(fields) > 1 else None


def proportional_bytes(pid: int, root: str = "/proc") -> int | None:
    """Memory in RAM, pages it shares divided among their users."""
    for line in (_read(f"{root}/{pid}/smaps_rollup") or "").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return None


class ProcessReading(NamedTuple):
    """One worker process from outside; None is what could not be read."""

    user_s: float | None = None
    system_s: float | None = None
    resident_bytes: int | None = None
    proportional_bytes: int | None = None
    open_fds: int | None = None
    max_fds: int | None = None


@dataclass(slots=True)
class _Kept:
    """What is remembered of a pid between scrapes."""

    max_fds: int | None
    proportional_bytes: int | None = None
    memory_due_s: float = 0.0


class ProcessReader:
    """Reads worker processes at a scrape. Not for concurrent use."""

    def __init__(
        self, proc_root: str = "/proc", monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = proc_root
        self._monotonic = monotonic
        self._kept: dict[int, _Kept] = {}

    def read(self, pids: Iterable[int]) -> dict[int, ProcessReading]:
        """Read these processes and forget all others."""
        wanted = list(pids)
        self._kept = {pid: self._kept.get(pid) or _Kept(self._max_fds(pid)) for pid in wanted}
        self._refresh_memory()
        return {pid: self._one(pid) for pid in wanted}

    def _one(self, pid: int) -> ProcessReading:
        kept = self._kept[pid]
        cpu = cpu_seconds(pid, self._root)
        return ProcessReading(
            user_s=cpu[0] if cpu else None,
            system_s=cpu[1] if cpu else None,
            resident_bytes=resident_bytes(pid, self._root),
            proportional_bytes=kept.proportional_bytes,
            open_fds=self._open_fds(pid),
            max_fds=kept.max_fds,
        )

    def _refresh_memory(self) -> None:
        """Measure the workers whose turn has come, the longest waiting first."""
        started = self._monotonic()
        for pid, kept in sorted(self._kept.items(), key=lambda item: item[1].memory_due_s):
            now = self._monotonic()
            if kept.memory_due_s > now or now - started > _MEMORY_BUDGET_S:
                break
            kept.memory_due_s = now + _MEMORY_PERIOD_S
            kept.proportional_bytes = proportional_bytes(pid, self._root)

    def _open_fds(self, pid: int) -> int | None:
        path = f"{self._root}/{pid}/fd"
        try:
            # Since Linux 6.2 the directory's size is the number of open files; counting
            # names costs milliseconds with ten thousand connections.
            return os.stat(path).st_size or len(os.listdir(path))
        except OSError:
            return None

    def _max_fds(self, pid: int) -> int | None:
        for line in (_read(f"{self._root}/{pid}/limits") or "").splitlines():
            if line.startswith("Max open files"):
                soft = line.split()[3]
                return int(soft) if soft.isdigit() else None
        return None


class OwnTimes:
    """A worker's own CPU and waiting, brought into its slot row at each heartbeat.

    Threads come and go with their counters, so what each one gained since the last look is
    added up: the totals never shrink, and a process that is killed takes with it what it
    used since its last heartbeat and no more.
    """

    def __init__(self, row: SlotRow, task_root: str = "/proc/self/task") -> None:
        self._row = row
        self._root = task_root
        self._seen: dict[int, tuple[int, int]] = {}

    def record(self) -> None:
        """Watchdog: bring the row up to date; also once before the process exits."""
        own = os.times()
        self._row.process_cpu(own.user + own.children_user, own.system + own.children_system)
        tasks = self._tasks()
        if tasks is None:
            return
        pool = set(self._row.native_ids())
        cpu_ns = wait_ns = 0
        for tid, (cpu, wait) in tasks.items():
            cpu_before, wait_before = self._seen.get(tid, (0, 0))
            # A thread id used again starts over.
            if cpu < cpu_before:
                cpu_before = wait_before = 0
            wait_ns += max(wait - wait_before, 0)
            if tid in pool:
                cpu_ns += cpu - cpu_before
        self._seen = tasks
        self._row.kernel_times(cpu_ns / 1e9, wait_ns / 1e9)

    def _tasks(self) -> dict[int, tuple[int, int]] | None:
        """Return thread id -> nanoseconds on and waiting for a CPU.

        /proc/PID/schedstat would be shorter, but it is the main thread's alone.
        """
        tasks: dict[int, tuple[int, int]] = {}
        try:
            names = os.listdir(self._root)
        except OSError:
            return None
        for name in names:
            fields = (_read(f"{self._root}/{name}/schedstat") or "").split()
            if len(fields) == 3:
                tasks[int(name)] = int(fields[0]), int(fields[1])
        return tasks or None


def _read(path: str) -> str | None:
    """Return a /proc file's text; unbuffered, since half the cost of open() is its buffer."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 65536).decode("utf-8", "replace")
    except OSError:
        return None  # ESRCH: the process went between open and read
    finally:
        os.close(fd)
