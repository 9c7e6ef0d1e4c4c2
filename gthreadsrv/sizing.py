"""How many workers and threads, from the CPUs this container may really use.

Runs in the master at each load of the settings. The rule: one worker per CPU, since one
interpreter keeps about one CPU busy, and the fewest threads that give 2xCPU+1 requests at
once, so that some wait for I/O while others compute. Given one of the two, the other
follows the same rule. `resolve` is pure; only `read_cpus` looks at the system.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gthreadsrv.cgroup import cpu_limit

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Cpus:
    """Whole CPUs this process may use, and where that was read."""

    count: int
    where: str


class Sizing(NamedTuple):
    """The arrangement, and how it came about."""

    workers: int
    threads: int
    cpus: Cpus
    rule: str
    most_workers: int = 0  # more than `workers` where their number follows the load

    def describe(self) -> dict[str, object]:
        """The fields of the log line at boot that shows the sum."""
        range_ = {"most_workers": self.most_workers} if self.most_workers > self.workers else {}
        return {
            "cpus": self.cpus.count,
            "cpus_from": self.cpus.where,
            "rule": self.rule,
            "workers": self.workers,
            "threads": self.threads,
            "requests_at_once": self.workers * self.threads,
            **range_,
        }


def resolve(workers: int | None, threads: int | None, cpus: Cpus, most_workers: int = 0) -> Sizing:
    """The arrangement for `cpus`; None (or 0) is what nobody has set.

    Of a range of workers the fewest decide: they alone must give 2xCPU+1.
    """
    count = cpus.count
    target = 2 * count + 1
    if workers and threads:
        rule = "workers and threads as set"
    elif workers:
        threads = _ceil(target, workers)
        rule = f"workers as set, fewest threads for 2xCPU+1 = {target}"
    elif threads:
        workers = max(count, _ceil(target, threads))
        rule = f"threads as set, a worker per CPU and enough for 2xCPU+1 = {target}"
    else:
        workers = count
        threads = _ceil(target, workers)
        rule = f"a worker per CPU, fewest threads for 2xCPU+1 = {target}"
    return Sizing(workers, threads, cpus, rule, max(most_workers, workers))


def read_cpus(environ: Mapping[str, str], root: str = "/", affinity: int | None = None) -> Cpus:
    """CPUs by PYTHON_CPU_COUNT, else the control groups' limit within the affinity mask."""
    option = sys._xoptions.get("cpu_count")  # noqa: SLF001  its documented place
    for word, where in ((option, "-X cpu_count"), (environ.get("PYTHON_CPU_COUNT"), "")):
        # "default" means what we do anyway; other words are for Python itself to refuse.
        if isinstance(word, str) and word.isdecimal() and int(word):
            return Cpus(int(word), where or "PYTHON_CPU_COUNT")
    usable = affinity if affinity is not None else _affinity()
    limit = cpu_limit(root)
    if limit is not None and limit.whole_cores < usable:
        return Cpus(limit.whole_cores, f"{limit.where} = {limit.cores:g}")
    return Cpus(usable, "affinity mask" if hasattr(os, "sched_getaffinity") else "CPU count")


def _affinity() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _ceil(amount: int, share: int) -> int:
    return -(-amount // share)
