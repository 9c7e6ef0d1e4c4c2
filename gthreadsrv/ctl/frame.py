"""What `status` says and `top` shows, out of one metrics page or two.

Pure. One page gives the state and the totals, a second one before it the rates as well: these
are None without it, as is what the server does not measure on its machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gthreadsrv_metrics.advice import throttled_share
from gthreadsrv_metrics.catalogue import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gthreadsrv_metrics.advice import Page

__all__ = ["Before", "Frame", "ListenerLine", "WorkerLine", "frame"]


@dataclass(frozen=True, slots=True)
class Before:
    """An earlier page, and how many seconds earlier."""

    page: Page
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """One worker. Times are seconds."""

    slot: int
    generation: int
    age_s: float
    threads: int
    threads_busy: int
    oldest_request_s: float
    heartbeat_age_s: float
    memory_bytes: float | None  # proportional where that is known, else resident
    requests: float
    requests_per_s: float | None
    busy_share: float | None
    cpu_cores: float | None


@dataclass(frozen=True, slots=True)
class ListenerLine:
    """One listener's queue in the kernel; None is what the kernel does not tell."""

    name: str
    waiting: float | None
    limit: float | None
    dropped: float | None


@dataclass(frozen=True, slots=True)
class Frame:
    """One look at a server."""

    version: str
    parser: str
    uptime_s: float
    workers_ready: int
    workers_booting: int
    workers_draining: int
    workers_target: int
    workers_least: int
    workers_most: int
    threads: int
    threads_busy: int
    utilisation: float | None  # over the last 15 s, as the server measures it
    requests: float
    responses_5xx: float
    requests_per_s: float | None
    responses_5xx_per_s: float | None
    queue_mean_s: float | None
    duration_mean_s: float | None
    connections: dict[str, float]
    exits: dict[str, float]  # by reason, those that happened
    reloads_failed: float
    memory_bytes: float
    memory_limit_bytes: float | None
    cpu_cores: float | None
    cpu_limit_cores: float | None
    throttled_share: float | None
    listeners: tuple[ListenerLine, ...]
    workers: tuple[WorkerLine, ...]


def frame(page: Page, wall: float, before: Before | None = None) -> Frame:
    """What the page says at `wall` (unix seconds)."""
    look = _Look(page, before)
    build = next((dict(labels) for labels in page.get(f"{PREFIX}build_info", {})), {})
    slots = look.each("worker_up", "worker")
    lines = [
        _worker(look, slot, wall) for slot, up in sorted(slots.items(), key=_number) if up == 1.0
    ]
    return Frame(
        version=build.get("version", ""),
        parser=build.get("parser", ""),
        uptime_s=max(wall - look.sum("start_time_seconds"), 0.0),
        workers_ready=int(look.sum("workers", state="ready")),
        workers_booting=int(look.sum("workers", state="booting")),
        workers_draining=int(look.sum("workers", state="draining")),
        workers_target=int(look.sum("workers_target")),
        workers_least=int(look.sum("config_workers")),
        workers_most=int(look.sum("config_max_workers")),
        threads=int(look.sum("threads")),
        threads_busy=int(look.sum("threads_busy")),
        utilisation=look.known("thread_utilization_ratio"),
        # Not requests_total, which has no series before the first request.
        requests=look.sum("request_duration_seconds_count"),
        responses_5xx=look.sum("request_duration_seconds_count", code_class="5xx"),
        requests_per_s=look.rate("request_duration_seconds_count"),
        responses_5xx_per_s=look.rate("request_duration_seconds_count", code_class="5xx"),
        queue_mean_s=look.mean("request_queue_seconds"),
        duration_mean_s=look.mean("request_duration_seconds"),
        connections=look.each("connections", "state"),
        exits={why: n for why, n in look.each("worker_exits_total", "reason").items() if n},
        reloads_failed=look.sum("reloads_total", result="failed"),
        memory_bytes=sum(line.memory_bytes or 0.0 for line in lines),
        memory_limit_bytes=look.known("cgroup_memory_limit_bytes"),
        cpu_cores=look.rate("worker_cpu_seconds_total"),
        cpu_limit_cores=look.known("cgroup_cpu_limit_cores"),
        throttled_share=look.throttled(),
        listeners=tuple(_listeners(look)),
        workers=tuple(lines),
    )


def _worker(look: _Look, slot: str, wall: float) -> WorkerLine:
    threads = int(look.sum("threads", worker=slot))
    busy = look.rate("thread_busy_seconds_total", worker=slot)
    memory = look.known("worker_proportional_memory_bytes", worker=slot)
    return WorkerLine(
        slot=int(slot),
        generation=int(look.sum("worker_generation", worker=slot)),
        age_s=max(wall - look.sum("worker_start_time_seconds", worker=slot), 0.0),
        threads=threads,
        threads_busy=int(look.sum("threads_busy", worker=slot)),
        oldest_request_s=look.sum("oldest_request_age_seconds", worker=slot),
        heartbeat_age_s=look.sum("worker_heartbeat_age_seconds", worker=slot),
        memory_bytes=memory or look.known("worker_resident_memory_bytes", worker=slot),
        requests=look.sum("worker_requests_total", worker=slot),
        requests_per_s=look.rate("worker_requests_total", worker=slot),
        busy_share=None if busy is None or not threads else min(busy / threads, 1.0),
        cpu_cores=look.rate("worker_cpu_seconds_total", worker=slot),
    )


def _listeners(look: _Look) -> list[ListenerLine]:
    waiting = look.each("listener_backlog", "listener")
    limits = look.each("listener_backlog_limit", "listener")
    dropped = look.each("listener_drops_total", "listener")
    return [
        ListenerLine(name, waiting.get(name), limits.get(name), dropped.get(name))
        for name in sorted({*waiting, *limits})
    ]


def _number(item: tuple[str, float]) -> int:
    return int(item[0])


@dataclass(frozen=True, slots=True)
class _Look:
    """A page, perhaps beside an earlier one."""

    page: Page
    before: Before | None

    def known(self, name: str, **labels: str) -> float | None:
        """The sum of the series with these labels; None where there is none."""
        return _sum(self.page, name, labels)

    def sum(self, name: str, **labels: str) -> float:
        """The same, 0 where there is none."""
        return _sum(self.page, name, labels) or 0.0

    def each(self, name: str, label: str) -> dict[str, float]:
        """Sums by the values of one label."""
        found: dict[str, float] = {}
        for key, value in self.page.get(PREFIX + name, {}).items():
            of = dict(key)[label]
            found[of] = found.get(of, 0.0) + value
        return found

    def rate(self, name: str, **labels: str) -> float | None:
        """What a counter grew by in a second; it starts anew with the server."""
        now = _sum(self.page, name, labels)
        if self.before is None or self.before.seconds <= 0 or now is None:
            return None
        then = _sum(self.before.page, name, labels) or 0.0
        return (now - then if now >= then else now) / self.before.seconds

    def throttled(self) -> float | None:
        """Share of the time in which the kernel held the container back."""
        seconds = self.rate("cgroup_cpu_throttled_seconds_total")
        periods = self.rate("cgroup_cpu_throttled_periods_total")
        return None if seconds is None else throttled_share(seconds, periods)

    def mean(self, histogram: str) -> float | None:
        """Mean of what was observed between the pages; None of nothing."""
        count, total = self.rate(f"{histogram}_count"), self.rate(f"{histogram}_sum")
        return total / count if count and total is not None else None


def _sum(page: Page, name: str, labels: Mapping[str, str]) -> float | None:
    wanted = labels.items()
    values = [v for key, v in page.get(PREFIX + name, {}).items() if wanted <= dict(key).items()]
    return sum(values) if values else None
