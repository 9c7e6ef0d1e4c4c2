"""How many workers the load asks for: the policy of `--workers 2:8`, without its eyes and hands.

Pure: a window of readings goes in, a number of workers and the reason come out. The window is
all the memory there is, so the same readings always give the same answer: what was wanted
before is part of each reading.

    * up: within a second and a half of threads being full, by as many workers as the requests
      under way and waiting would keep comfortably busy, at most to twice as many; and by one
      where requests compute in turns, because each worker's interpreter is full;
    * never up while the container's CPU or memory is what is full: more workers would share it;
    * never up before the workers wanted already are there;
    * down: one at a time, and only when the highest demand of a whole spell would have left
      the workers that remain with room to spare; also where one has never come up.

Between the two lies a wide band in which nothing happens, so load that wavers moves nothing.
Not here: clocks, scoreboards, processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLE_S: Final = 0.5
"""Between readings."""

UP_WINDOW_S: Final = 1.0
"""How long threads must have been full. Shorter, and one slow request among few would do."""

BUSY_FULL: Final = 0.9
"""Of the threads' time: from here on requests wait, whatever their order (queueing theory)."""

WAIT_S: Final = 0.02
"""Mean wait for a thread at which it is short of them although some are free at times: a free
thread has a request within a millisecond."""
BUSY_WITH_WAITS: Final = 0.6

COMFORT: Final = 0.7
"""Busy share of threads that growth aims at."""

BUSY_CALM: Final = 0.6
"""Busy share that the remaining workers would have had at the busiest moment of a calm spell.
Far from BUSY_FULL: noise around it does not reach that."""

CPU_FULL: Final = 0.85
"""Of the CPU there is, as in gthreadsrvctl's advice."""
THROTTLED_SHARE: Final = 0.05
STARVED: Final = 0.25
"""Threads ready to compute that have no CPU, on the mean, and at least as much as they compute:
then others on the machine have it."""
BEATS_WINDOW_S: Final = 3.0
"""Workers tell of waits once a second, so a second's figure may be none's or two's."""

INTERPRETER_FULL: Final = 0.8
"""Of a core in each worker, as in gthreadsrvctl's advice."""
CROWDED: Final = 1.5
"""Requests under way for each interpreter that is full: from here on they take turns."""
INTERPRETER_WAIT_S: Final = 0.002
"""How late a worker's watchdog then gets the interpreter, on the mean; code that computes without
it leaves it free at once."""

MEMORY_MARGIN: Final = 1.1
"""A new worker is taken to need this much more than the largest has now."""
REPLACEMENTS: Final = 1
"""Workers that still fit when all have grown: a reload or a recycling boots the new one first."""

DOWN_STEPS: Final = 6
"""After a calm spell, workers go one by one, a sixth of the spell apart."""

Refusal: TypeAlias = Literal["cpu", "memory", "limit"]


@dataclass(frozen=True, slots=True)
class Reading:
    """The fleet at one instant. Times are seconds; those of work are totals since the start."""

    at: float
    target: int  # workers wanted
    ready: int
    threads: int  # of the ready workers, and those that others still use
    busy_s: float
    wait_s: float  # of requests, before the application started
    started: float  # requests that waited so
    cpu_s: float
    cpu_wait_s: float  # threads ready to compute without a CPU
    cores: float  # CPUs it may use
    throttled_s: float
    memory_left: float | None  # bytes below the container's limit; None: it has none
    worker_memory: float  # bytes of the largest worker; 0: not known yet
    interpreter_wait_s: float = 0.0  # how late the workers' watchdogs were, looking once a second


class Bounds(NamedTuple):
    """What was asked for."""

    least: int
    most: int
    calm_s: float  # how long fewer workers must have been enough


class Decision(NamedTuple):
    """So many workers, and why; `refusal` tells what kept them from being more."""

    target: int
    reason: str
    refusal: Refusal | None = None


class _Span(NamedTuple):
    """What happened between two readings."""

    first: Reading
    last: Reading

    @property
    def seconds(self) -> float:
        return self.last.at - self.first.at

    @property
    def busy(self) -> float:
        """Threads busy, on the mean."""
        return max(self.last.busy_s - self.first.busy_s, 0.0) / self.seconds

    @property
    def waiting(self) -> float:
        """Requests that waited, on the mean (Little's law)."""
        return max(self.last.wait_s - self.first.wait_s, 0.0) / self.seconds

    @property
    def mean_wait_s(self) -> float:
        started = self.last.started - self.first.started
        return self.waiting * self.seconds / started if started > 0 else 0.0

    @property
    def busy_share(self) -> float:
        threads = (self.first.threads + self.last.threads) / 2
        return min(self.busy / threads, 1.0) if threads else 0.0

    @property
    def cpu(self) -> float:
        """Cores in use."""
        return max(self.last.cpu_s - self.first.cpu_s, 0.0) / self.seconds

    @property
    def cpu_wait(self) -> float:
        """Threads ready to compute without a CPU, on the mean."""
        return max(self.last.cpu_wait_s - self.first.cpu_wait_s, 0.0) / self.seconds

    @property
    def throttled(self) -> float:
        """Share of the time in which the kernel held the container back."""
        return max(self.last.throttled_s - self.first.throttled_s, 0.0) / self.seconds

    @property
    def short(self) -> bool:
        """Whether requests find no free thread."""
        return self.busy_share >= BUSY_FULL or (
            self.mean_wait_s >= WAIT_S and self.busy_share >= BUSY_WITH_WAITS
        )


def kept_s(bounds: Bounds) -> float:
    """How old a reading may be and still matter."""
    return bounds.calm_s + UP_WINDOW_S


def decide(window: Sequence[Reading], bounds: Bounds) -> Decision:
    """How many workers are wanted; `window` is in the order of time and not empty."""
    now = window[-1]
    target = now.target
    if not bounds.least <= target <= bounds.most:
        return Decision(min(max(target, bounds.least), bounds.most), "bounds")
    if now.ready < target:
        # One that cannot boot would be tried for ever, though nobody needs it any more.
        if _calm(window, bounds):
            return Decision(target - 1, "calm")
        return Decision(target, "waiting for workers")
    recent = _recent(window)
    if recent is not None and (recent.short or _take_turns(recent, window)):
        if now.target < bounds.most and _cpu_is_full(recent, window):
            return Decision(target, "saturated", "cpu")
        return _grow(recent, bounds)
    if _calm(window, bounds):
        return Decision(target - 1, "calm")
    if recent is None:
        return Decision(target, "too early to tell")
    return Decision(target, "busy" if recent.busy_share >= COMFORT else "steady")


def _recent(window: Sequence[Reading]) -> _Span | None:
    """The last second, if the fleet was what was wanted all through it."""
    last = window[-1]
    for reading in reversed(window):
        if reading.target != last.target or reading.ready < reading.target:
            return None
        if last.at - reading.at >= UP_WINDOW_S:
            return _Span(reading, last)
    return None


def _cpu_is_full(recent: _Span, window: Sequence[Reading]) -> bool:
    """Whether more workers would only share what CPU there is."""
    if recent.cpu >= CPU_FULL * recent.last.cores or recent.throttled > THROTTLED_SHARE:
        return True
    span = _beats(window)
    return span.cpu_wait >= max(STARVED, span.cpu)


def _take_turns(recent: _Span, window: Sequence[Reading]) -> bool:
    """Whether requests are held up by the workers' interpreters, though threads are free."""
    ready = recent.last.ready
    if recent.cpu < INTERPRETER_FULL * ready or recent.busy < CROWDED * ready:
        return False
    span = _beats(window)
    late_s = max(span.last.interpreter_wait_s - span.first.interpreter_wait_s, 0.0)
    return late_s / span.seconds / ready >= INTERPRETER_WAIT_S


def _beats(window: Sequence[Reading]) -> _Span:
    """Long enough for what workers tell once a second."""
    now = window[-1]
    longer = (one for one in reversed(window) if now.at - one.at >= BEATS_WINDOW_S)
    return _Span(next(longer, window[0]), now)


def _grow(recent: _Span, bounds: Bounds) -> Decision:
    now = recent.last
    target = now.target
    if target >= bounds.most:
        return Decision(target, "saturated", "limit")
    more = _wanted(recent) - target
    # Where requests compute, so many workers as the CPU that is left can feed.
    each = recent.cpu / now.ready
    if each > 0:
        more = min(more, max(1, int((CPU_FULL * now.cores - recent.cpu) / each)))
    if now.memory_left is not None and now.worker_memory > 0:
        fit = int(max(now.memory_left, 0.0) / (now.worker_memory * MEMORY_MARGIN)) - REPLACEMENTS
        if fit <= 0:
            return Decision(target, "saturated", "memory")
        more = min(more, fit)
    return Decision(min(target + more, bounds.most), "saturated")


def _wanted(recent: _Span) -> int:
    """Workers that would carry what runs and waits in comfort.

    At least one more, at most twice as many: what waits so long may have come at once.
    """
    target = recent.last.target
    threads = recent.last.threads / recent.last.ready
    wanted = math.ceil((recent.busy + recent.waiting) / threads / COMFORT)
    return min(max(wanted, target + 1), 2 * target)


def _calm(window: Sequence[Reading], bounds: Bounds) -> bool:
    """Whether there may be one worker less, which would have been enough for a whole spell."""
    now = window[-1]
    if now.target <= bounds.least or not now.ready:
        return False
    if now.at - window[0].at < bounds.calm_s:
        return False  # it has not been watched for so long
    enough = BUSY_CALM * now.threads / now.ready * (now.target - 1)
    last = now
    for reading in reversed(window):
        age_s = now.at - reading.at
        # One that grew in this spell has not been calm; one that shrank waits for the next turn.
        if reading.target < now.target:
            return False
        if reading.target > now.target and age_s < bounds.calm_s / DOWN_STEPS:
            return False
        if last.at - reading.at >= UP_WINDOW_S:
            span = _Span(reading, last)
            if span.busy + span.waiting > enough or span.cpu > BUSY_CALM * (now.target - 1):
                return False
            last = reading
            if age_s >= bounds.calm_s:
                return True
    return False
