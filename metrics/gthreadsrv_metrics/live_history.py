"""The last two minutes of a server, for the live page: moments, and what happened between them.

A moment is what one collection says, boiled down to totals: some hundred numbers whatever the
number of workers. Every collection leaves one here, a scrape's as well as a viewer's. So a page
opened in the middle of an incident shows what led to it as finely as somebody looked, and where
nobody scrapes and nobody looks nothing is done. Pure but for the list: no clock, no I/O.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gthreadsrv_metrics import labels
from gthreadsrv_metrics.catalogue import PREFIX
from gthreadsrv_metrics.layout import M_EXITS
from gthreadsrv_metrics.reading import code_class

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gthreadsrv_metrics.advice import Page
    from gthreadsrv_metrics.families import Families
    from gthreadsrv_metrics.reading import FleetReading

__all__ = ["APART_S", "KEPT_S", "WINDOW_S", "Drawn", "History", "Moment", "moment_of", "quantile"]

KEPT_S: Final = 120.0
"""How far back the page looks."""

WINDOW_S: Final = 10.0
"""What rates and percentiles are taken over: a second alone is too few requests."""

APART_S: Final = 0.9
"""Moments nearer than this to the one before are not kept: any number of viewers add as one."""

# What the advice rests on, and what is drawn. Totals over all workers and listeners.
TOTALS: Final = (
    "cgroup_cpu_limit_cores", "cgroup_cpu_throttled_periods_total",
    "cgroup_cpu_throttled_seconds_total", "cgroup_memory_limit_bytes",
    "cgroup_memory_usage_bytes", "cgroup_oom_kills_total", "config_max_workers",
    "config_threads", "config_workers", "interpreter_wait_seconds_total", "listener_backlog",
    "listener_backlog_limit", "listener_drops_total", "proxy_queue_seconds",
    "request_cpu_seconds_total", "request_queue_seconds", "saturated_seconds_total",
    "thread_busy_seconds_total", "threads", "worker_cpu_seconds_total",
    "worker_proportional_memory_bytes", "worker_runqueue_wait_seconds_total", "worker_up",
    "workers_target",
)  # fmt: skip
_ERRORS: Final = labels.CODE_CLASSES.index("5xx")


@dataclass(frozen=True, slots=True)
class Moment:
    """One collection's totals. All counts are since the server's start."""

    at: float  # CLOCK_MONOTONIC seconds
    page: Page
    classes: tuple[float, ...]  # responses by code class
    durations: tuple[float, ...]  # responses by bucket of their duration
    queue: tuple[float, ...]  # requests by bucket of their queue time
    workers: Mapping[int, tuple[float, float]]  # slot -> requests, CPU seconds
    memory: Mapping[int, float]  # slot -> bytes
    exits: tuple[float, ...]  # workers' ends by reason

    def total(self, name: str) -> float | None:
        """Return a series' sum over all its labels; None where there is no such series."""
        series = self.page.get(PREFIX + name)
        return None if series is None else sum(series.values())


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the page draws of one moment, in four digits; None is not known. Times in seconds."""

    at: float
    rate: float | None = None  # responses a second
    errors: float | None = None  # of these, with a 5xx
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    queue_p50: float | None = None
    queue_p95: float | None = None
    queue_p99: float | None = None
    busy: float | None = None  # share of the threads' time
    cpu: float | None = None  # cores
    backlog: float | None = None  # connections
    memory: float | None = None  # bytes
    exits: float | None = None  # workers that ended since the moment before


def moment_of(families: Families, fleet: FleetReading) -> Moment:
    """Boil a collection down."""
    page: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for name in TOTALS:
        for sample in families.samples(name):
            # Buckets are below, added up where they lie.
            if not sample.name.endswith("_bucket"):
                series = page.setdefault(sample.name, {(): 0.0})
                series[()] += sample.value
    for sample in families.samples("build_info"):  # its labels are what it says
        page[sample.name] = {tuple(sorted(sample.labels.items())): sample.value}
    classes = dict.fromkeys(labels.CODE_CLASSES, 0.0)
    durations = [0.0] * (len(labels.DURATION_BOUNDS) + 1)
    for key, cells in fleet.durations.items():
        classes[code_class(key)] += sum(cells[1:])
        durations = [a + b for a, b in zip(durations, cells[1:], strict=True)]
    cpu_s = dict.fromkeys((slot.slot for slot in fleet.slots), 0.0)
    for sample in families.samples("worker_cpu_seconds_total"):
        cpu_s[int(sample.labels["worker"])] += sample.value
    # A worker's share of the pages it shares, where the kernel has told it; else all of them.
    memory: dict[int, float] = {}
    for name in ("worker_resident_memory_bytes", "worker_proportional_memory_bytes"):
        memory.update({int(s.labels["worker"]): s.value for s in families.samples(name)})
    return Moment(
        at=fleet.now,
        page=page,
        classes=tuple(classes.values()),
        durations=tuple(durations),
        queue=tuple(map(sum, zip(*(cells[1:] for cells in fleet.queue.values()), strict=True))),
        workers={slot.slot: (slot.requests, cpu_s[slot.slot]) for slot in fleet.slots},
        memory=memory,
        exits=tuple(fleet.master[M_EXITS : M_EXITS + len(labels.EXIT_REASONS)]),
    )


def quantile(share: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """Return what a share of the observations does not exceed; None of no observations.

    Within a bucket observations are taken to lie evenly, as PromQL's histogram_quantile does;
    what is above the last bound is said to be at it.
    """
    total = sum(counts)
    if total <= 0.0:
        return None
    rank, below, low = share * total, 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count > 0.0 and below + count >= rank:
            return low + (bound - low) * (rank - below) / count
        below += count
        low = bound
    return bounds[-1]


def short(number: float | None) -> float | None:
    """Return four digits of a number: what is drawn needs no more."""
    return None if number is None else float(f"{number:.4g}")


def grown(before: Sequence[float], after: Sequence[float]) -> list[float]:
    """Return what counts grew by; none of them can shrink."""
    return [max(b - a, 0.0) for a, b in zip(before, after, strict=True)]


def drawn(moment: Moment, before: Moment | None, previous: Moment | None) -> Drawn:
    """Return what is drawn of a moment, with rates since ``before``.

    ``previous`` is the moment that was drawn last, for events that are drawn one by one.
    """
    memory = sum(moment.memory.values()) if moment.memory else None
    backlog = moment.total("listener_backlog")
    if before is None or previous is None:
        return Drawn(moment.at, backlog=backlog, memory=memory)
    seconds = moment.at - before.at
    classes = grown(before.classes, moment.classes)
    durations = grown(before.durations, moment.durations)
    queue = grown(before.queue, moment.queue)

    def growth(name: str) -> float | None:
        then, now = before.total(name), moment.total(name)
        return None if then is None or now is None else max(now - then, 0.0)

    busy_s, cpu_s = growth("thread_busy_seconds_total"), growth("worker_cpu_seconds_total")
    # Workers come and go: what there was to be busy lies between what there was and what is.
    threads = ((before.total("threads") or 0.0) + (moment.total("threads") or 0.0)) / 2
    duration_bounds, queue_bounds = labels.DURATION_BOUNDS, labels.QUEUE_BOUNDS
    return Drawn(
        at=moment.at,
        rate=short(sum(classes) / seconds),
        errors=short(classes[_ERRORS] / seconds),
        p50=short(quantile(0.5, duration_bounds, durations)),
        p95=short(quantile(0.95, duration_bounds, durations)),
        p99=short(quantile(0.99, duration_bounds, durations)),
        queue_p50=short(quantile(0.5, queue_bounds, queue)),
        queue_p95=short(quantile(0.95, queue_bounds, queue)),
        queue_p99=short(quantile(0.99, queue_bounds, queue)),
        busy=None if busy_s is None or not threads else short(min(busy_s / threads / seconds, 1.0)),
        cpu=None if cpu_s is None else short(cpu_s / seconds),
        backlog=backlog,
        memory=memory,
        exits=sum(grown(previous.exits, moment.exits)),
    )


class History:
    """The moments of the last two minutes, the oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows: scrapes and viewers add
        self._moments: deque[tuple[Moment, Drawn]] = deque()

    def add(self, moment: Moment) -> None:
        """Keep a moment, unless one is there that is hardly older."""
        with self._lock:
            moments = self._moments
            if moments and moment.at - moments[-1][0].at < APART_S:
                return
            # One beyond the edge: the first that is drawn has something before it.
            while len(moments) > 1 and moments[1][0].at < moment.at - KEPT_S - WINDOW_S:
                moments.popleft()
            previous = moments[-1][0] if moments else None
            moments.append((moment, drawn(moment, self._before(moment.at), previous)))

    def before(self, now: float) -> Moment | None:
        """Return the moment that rates at ``now`` are taken from.

        It is the youngest that is a window old; the oldest there is where none is; None where
        all there is is as good as now.
        """
        with self._lock:
            return self._before(now)

    def oldest(self, now: float) -> Moment | None:
        """Return the first moment that is still looked at."""
        with self._lock:
            return next((m for m, _ in self._moments if m.at >= now - KEPT_S), None)

    def drawn(self, now: float) -> list[Drawn]:
        """Return what is drawn of them all."""
        with self._lock:
            return [shown for moment, shown in self._moments if moment.at >= now - KEPT_S]

    def _before(self, now: float) -> Moment | None:
        found = None
        for moment, _ in self._moments:
            if found is not None and moment.at > now - WINDOW_S:
                break
            found = moment
        return found if found is not None and now - found.at >= APART_S else None
