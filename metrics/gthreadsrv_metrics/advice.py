"""What limits a server now, and which setting to change: plain words with their numbers.

Pure: two readings of the metrics page and the seconds between them go in, advice comes out, none
when there is nothing to say. Used by `gthreadsrvctl advise` and the live page. Each finding is a
function of its own, and none looks at what another has found: a server may be short of several
things.

The order of thought is that of the utilisation law: requests wait because every thread is busy;
threads are busy because they compute, or because they wait for somebody else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gthreadsrv_metrics.catalogue import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    Labels: TypeAlias = tuple[tuple[str, str], ...]
    # One page: series name -> its label sets -> value.
    Page: TypeAlias = Mapping[str, Mapping[Labels, float]]

__all__ = ["Advice", "Window", "advise", "throttled_share"]

SATURATED_SHARE: Final = 0.1
"""Of the time, with no thread free: from here on a request in ten finds none. It tells only where
the threads are full too: a worker of one thread has none free whenever it works."""

QUEUE_MEAN_S: Final = 0.02
"""Mean wait for a thread. A free thread has a request within a millisecond."""

CPU_FULL: Final = 0.85
"""Of the CPU there is. Above it waiting grows whatever threads do (queueing)."""

INTERPRETER_FULL: Final = 0.8
"""Of one core in one worker: its threads take turns with the interpreter."""

INTERPRETER_WAIT_S: Final = 0.002
"""How late the watchdog gets the interpreter, on the mean, where threads compute with it: they give
it up every 5 ms. Code in C that computes without it (hashing, pictures) leaves it free at once."""

CROWDED: Final = 1.5
"""Requests under way for each CPU, or interpreter, that is full: from here on they share it."""

STARVED: Final = 0.25
"""Threads that are ready to compute and have no CPU, on the mean; and at least as much as they
compute: then others on the machine have it."""

THROTTLED_SHARE: Final = 0.05
MEMORY_FULL: Final = 0.9
BACKLOG_FULL: Final = 0.5
PROXY_MEAN_S: Final = 0.1

COMPUTING: Final = 0.5
"""Of their time: from here on it is not others that threads wait for."""

PERIOD_S: Final = 0.1
"""The kernel's CPU quota is for so long, unless somebody has changed it."""

COMFORT: Final = 0.7
"""Utilisation at which threads are sized: the rest is for bursts."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing that limits the server."""

    limit: str  # threads, workers, cpu, quota, memory, backlog or proxy
    text: str
    numbers: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.limit}: {self.text} ({'; '.join(self.numbers)})"


@dataclass(frozen=True, slots=True)
class Window:
    """Two readings of one server's page."""

    before: Page
    after: Page
    seconds: float
    cores: float
    """CPUs the server may use, where the page names no limit."""

    def gauge(self, name: str, **labels: str) -> float:
        """The sum of a gauge's series now; 0 where there is none."""
        return _sum(self.after, name, labels)

    def known(self, name: str) -> bool:
        """Whether the page has such a series."""
        return self.after.get(PREFIX + name) is not None

    def delta(self, name: str, **labels: str) -> float:
        """What a counter has grown by; 0 where it went back, as after a restart."""
        return max(_sum(self.after, name, labels) - _sum(self.before, name, labels), 0.0)

    def mean(self, histogram: str) -> float:
        """Mean of what a histogram observed in the window, in its unit; 0 of nothing."""
        count = self.delta(f"{histogram}_count")
        return self.delta(f"{histogram}_sum") / count if count else 0.0

    @property
    def utilisation(self) -> float:
        """Busy share of the threads' time."""
        capacity_s = self.gauge("threads") * self.seconds
        return self.delta("thread_busy_seconds_total") / capacity_s if capacity_s else 0.0

    @property
    def saturated(self) -> float:
        """Share of the workers' time with no thread free."""
        workers = self.gauge("worker_up")
        return self.delta("saturated_seconds_total") / (workers * self.seconds) if workers else 0.0

    @property
    def queues(self) -> bool:
        """Whether requests wait, on the mean, for longer than a free thread would let them."""
        return self.mean("request_queue_seconds") > QUEUE_MEAN_S

    @property
    def full(self) -> bool:
        """Whether hardly a thread is ever free."""
        return self.saturated > SATURATED_SHARE and self.utilisation >= COMFORT

    @property
    def waits(self) -> bool:
        """Whether requests wait for threads, or the next ones would."""
        return self.full or self.queues

    @property
    def wanted(self) -> float:
        """Workers there should be: during a reload twice as many are there."""
        return self.gauge("workers_target") or self.gauge("worker_up")

    @property
    def busy(self) -> float:
        """Threads busy, on the mean."""
        return self.delta("thread_busy_seconds_total") / self.seconds

    @property
    def one_thread(self) -> bool:
        """Whether the worker class has one thread, whatever --threads says."""
        return bool(self.gauge("build_info", worker_class="sync"))

    @property
    def green(self) -> bool:
        """Whether threads are greenlets: those of a worker share one of the system's."""
        return any(self.gauge("build_info", worker_class=name) for name in ("gevent", "eventlet"))

    @property
    def held_up(self) -> float:
        """Share of the workers' time in which one thread let no other run."""
        workers = self.gauge("worker_up")
        late_s = self.delta("interpreter_wait_seconds_total")
        return late_s / (workers * self.seconds) if workers else 0.0

    @property
    def cpu(self) -> float:
        """Cores that the workers use."""
        return self.delta("worker_cpu_seconds_total") / self.seconds

    @property
    def cpu_limit(self) -> float:
        """Cores there are."""
        return self.gauge("cgroup_cpu_limit_cores") or self.cores

    @property
    def throttled(self) -> float:
        """Share of the time in which the kernel held the container back."""
        periods = "cgroup_cpu_throttled_periods_total"
        return throttled_share(
            self.delta("cgroup_cpu_throttled_seconds_total") / self.seconds,
            self.delta(periods) / self.seconds if self.known(periods) else None,
        )

    @property
    def cpu_wait(self) -> float:
        """Threads that are ready to compute and wait for a CPU, on the mean."""
        return self.delta("worker_runqueue_wait_seconds_total") / self.seconds

    @property
    def starved(self) -> bool:
        """Whether somebody else on the machine has the CPU that the workers want."""
        return self.throttled <= THROTTLED_SHARE and self.cpu_wait >= max(STARVED, self.cpu)

    @property
    def cpu_full(self) -> bool:
        """Whether the workers use what CPU there is."""
        return self.cpu >= CPU_FULL * self.cpu_limit

    @property
    def interpreter_full(self) -> bool:
        """Whether the workers' interpreters are the limit, not what they wait for."""
        workers = self.gauge("worker_up")
        if not workers or self.cpu / workers < INTERPRETER_FULL:
            return False
        name = "interpreter_wait_seconds_total"
        late_s = self.delta(name) / workers / self.seconds  # the watchdog looks once a second
        return late_s >= INTERPRETER_WAIT_S or not self.known(name)

    def crowded(self, places: float) -> bool:
        """Whether more requests are under way than there are CPUs, or interpreters, for them."""
        return self.busy >= CROWDED * places

    def load(self) -> tuple[str, ...]:
        """The numbers that tell how busy it is."""
        return (
            f"threads busy {self.utilisation:.0%}",
            f"no thread free {self.saturated:.0%} of the time",
            f"mean wait {self.mean('request_queue_seconds') * 1e3:.0f} ms",
            f"CPU {self.cpu:.2f} of {self.cpu_limit:g} cores",
        )


@dataclass(slots=True)
class _Findings:
    """Advice in the order in which it is worth acting on."""

    found: list[Advice] = field(default_factory=list)

    def add(self, limit: str, text: str, *numbers: str) -> None:
        self.found.append(Advice(limit, text, numbers))


def advise(window: Window) -> list[Advice]:
    """What limits the server, the gravest first; nothing when nothing does."""
    findings = _Findings()
    _memory(findings, window)
    _quota(findings, window)
    _cpu(findings, window)
    _starved(findings, window)
    _workers(findings, window)
    _threads(findings, window)
    _backlog(findings, window)
    _proxy(findings, window)
    return findings.found


def _memory(findings: _Findings, window: Window) -> None:
    limit = window.gauge("cgroup_memory_limit_bytes")
    used = window.gauge("cgroup_memory_usage_bytes")
    killed = window.delta("cgroup_oom_kills_total")
    # The page cache counts as used and goes when it must; what the workers hold does not.
    held = window.gauge("worker_proportional_memory_bytes")
    if killed or (limit and used >= MEMORY_FULL * limit and held >= COMFORT * limit):
        findings.add(
            "memory",
            "the container's memory is nearly used up: raise its limit, or run fewer --workers,"
            " which share no memory, with more --threads, which do",
            f"{used / 2**20:.0f} of {limit / 2**20:.0f} MiB used",
            f"workers hold {held / 2**20:.0f} MiB",
            f"{killed:.0f} killed for memory",
        )


def _quota(findings: _Findings, window: Window) -> None:
    if window.throttled > THROTTLED_SHARE:
        findings.add(
            "quota",
            "the kernel holds the container back: raise its CPU limit; more workers or threads"
            " would only share the same quota",
            f"throttled {window.throttled:.0%} of the time",
            f"limit {window.cpu_limit:g} cores",
        )


def _cpu(findings: _Findings, window: Window) -> None:
    if not window.cpu_full or window.throttled > THROTTLED_SHARE:
        return
    if window.waits or window.crowded(window.cpu_limit):
        findings.add(
            "cpu",
            "requests wait and the CPU is full: add CPU or machines, or make the application"
            " cheaper; neither workers nor threads would help",
            *window.load(),
        )


def _starved(findings: _Findings, window: Window) -> None:
    if window.waits and window.starved and not window.cpu_full:
        findings.add(
            "cpu",
            "requests wait for a CPU that others on this machine use: take load off the machine, or"
            " have CPUs of its own for this server; neither workers nor threads would help",
            *window.load(),
            f"{window.cpu_wait:.2f} threads ready to compute have no CPU",
        )


def _workers(findings: _Findings, window: Window) -> None:
    if not window.interpreter_full or window.starved or window.cpu_full:
        return
    if window.waits or window.crowded(window.gauge("worker_up")):
        workers, most = window.wanted, window.gauge("config_max_workers")
        if workers < most:
            return  # of a range (2:8) there is more, and the server takes it by itself
        more = max(workers + 1, min(window.cpu_limit, math.ceil(window.cpu / COMFORT)))
        findings.add(
            "workers",
            f"requests wait for the interpreter, which one thread of a worker has at a time, and"
            f" there is CPU to spare: raise --workers from {_range(window, workers)} to"
            f" {_range(window, more)}",
            *window.load(),
            f"{window.cpu / window.gauge('worker_up'):.2f} cores in each worker",
        )


def _threads(findings: _Findings, window: Window) -> None:
    if not window.waits or window.starved or window.interpreter_full or window.cpu_full:
        return
    if window.green and not window.full:
        findings.add(
            "threads",
            "requests wait although greenlets are free: one that computes, or waits in C without"
            " telling the library (a database's driver), holds up all of its worker; use the"
            " driver's hooks, or --worker-class gthread",
            *window.load(),
            f"others held up {window.held_up:.0%} of the time",
        )
        return
    threads, workers = window.gauge("config_threads"), max(window.wanted, 1.0)
    computing = window.delta("request_cpu_seconds_total")
    share = computing / max(window.busy * window.seconds, 1e-9)
    # What was busy, at a comfortable utilisation; half as many more where none was ever free,
    # since then nobody knows how many would have been.
    wanted = max(math.ceil(window.busy / workers / COMFORT), math.ceil(threads * 1.5))
    happens = "requests wait" if window.queues else "hardly a thread is ever free"
    # Greenlets are as many as connections unless --threads says how many.
    by_connections = window.green and threads == window.gauge("config_worker_connections")
    setting = "--worker-connections" if by_connections else "--threads"
    do = f"raise {setting} from {threads:.0f} to {wanted:.0f}"
    if window.one_thread:
        do = f"use --worker-class gthread with --threads {wanted:.0f}"
    why = "threads wait for something else (a database, another service)"
    if share >= COMPUTING:
        why = "threads compute, most of the time without the interpreter"
    findings.add(
        "threads",
        f"{happens} while {why}, and there is CPU to spare: {do}",
        *window.load(),
        f"threads compute {min(share, 1.0):.0%} of their time",
    )


def _backlog(findings: _Findings, window: Window) -> None:
    dropped = window.delta("listener_drops_total")
    queued, limit = window.gauge("listener_backlog"), window.gauge("listener_backlog_limit")
    if dropped or (limit and queued >= BACKLOG_FULL * limit):
        findings.add(
            "backlog",
            "connections wait in the kernel's queue, and are dropped when it is full: see to what"
            " makes them wait; --backlog (and net.core.somaxconn, which caps it) only decides how"
            " many may",
            f"{queued:.0f} of {limit:.0f} waiting",
            f"{dropped:.0f} dropped in {window.seconds:.0f} s",
        )


def _proxy(findings: _Findings, window: Window) -> None:
    proxy_s, own_s = window.mean("proxy_queue_seconds"), window.mean("request_queue_seconds")
    if proxy_s > PROXY_MEAN_S and proxy_s > 4 * own_s:
        findings.add(
            "proxy",
            "requests lose their time before they get here: look at the proxy's connections to"
            " this server (keep-alive, their number), its buffers, and its clock",
            f"{proxy_s * 1e3:.0f} ms from the proxy's X-Request-Start",
            f"{own_s * 1e3:.0f} ms of it here",
        )


def throttled_share(seconds: float, periods: float | None) -> float:
    """Share of the time in which a container was held back; both are a second's.

    The seconds are added up over CPUs, so that of many they are more than there are.
    """
    most = 1.0 if periods is None else min(periods * PERIOD_S, 1.0)
    return min(seconds, most)


def _range(window: Window, workers: float) -> str:
    """So many workers as --workers says it: the end of a range, where it is one."""
    least, most = window.gauge("config_workers"), window.gauge("config_max_workers")
    return f"{least:.0f}:{workers:.0f}" if most > least else f"{workers:.0f}"


def _sum(page: Page, name: str, labels: Mapping[str, str]) -> float:
    wanted = set(labels.items())
    series = page.get(PREFIX + name, {})
    return sum(value for key, value in series.items() if wanted <= set(key))
