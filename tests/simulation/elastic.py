"""Pods whose workers follow the load, under an autoscaler of pods: two loops on one load.

The inner loop is the server's own policy (`--workers 1:4`), the function the master calls, with a
reading of each pod every half second; the outer one is hpa's. The same pods with a fixed number of
workers are run beside them, under the same load. `python -m tests.simulation.pods` prints the table.

A pod is a queue of work in front of its threads, in steps of half a second, as in pods. Waits that
begin and end within a step are added by the queueing formula, since the policy goes by waits of
20 ms: at the load that is expected, up to the utilisation from where on steps see the queue
themselves. The tests hold that to a simulation of one pod request by request. CPU and memory are to
spare, as they are with the recorded requests: they compute for a tenth of their time.
"""

from __future__ import annotations

import functools
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gthreadsrv.master.autoscale import SAMPLE_S, Bounds, Reading, decide, kept_s
from tests.simulation.autoscale.fleet import BOOT_S, LATE_S
from tests.simulation.hpa import SCRAPE_S, START_S, SYNC_S, TARGET, Autoscaler
from tests.simulation.queueing import mean_wait_s, recorded, waiting_share

THREADS: Final = 3  # of a worker of docker/kubernetes
CORES: Final = 2.0
CPU_SHARE: Final = 0.1
"""Of a request's time: 9 % of docker/load.py's compute for 10 ms, a request takes 16.3 ms."""
SEEN_BY_STEPS: Final = 0.85
CALM_S: Final = 60.0  # --scale-down-after

STEPS_A_SECOND: Final = round(1 / SAMPLE_S)


@dataclass(frozen=True, slots=True)
class Short:
    """Waits too short for the steps."""

    mean_s: float
    late: float  # share of requests


@functools.lru_cache(maxsize=4096)
def short_waits(threads: int, permille: int) -> Short:
    """Of a pod with so many threads at this utilisation."""
    times = recorded()
    offered = threads * min(permille / 1000, SEEN_BY_STEPS)
    rate = offered / times.mean_s
    decay = (threads - offered) / (times.mean_s * (1 + times.variation) / 2)
    late = waiting_share(threads, offered) * math.exp(-decay * LATE_S)
    return Short(mean_wait_s(threads, rate, times), late)


class Pod:
    """One pod: its work, its workers, what its master reads and what Prometheus knows."""

    def __init__(self, bounds: Bounds, ready_at: float, phase: int) -> None:
        self.bounds = bounds
        self.ready_at = ready_at
        self.phase = phase  # when in each interval it is scraped, seconds
        self.target = self.ready = bounds.least
        self.booting: list[float] = []  # when each worker will be ready
        self.waiting_s = 0.0  # thread time not yet given
        self.busy_s = self.wait_s = self.started = self.late = 0.0
        self.worker_s = self.thread_s = 0.0
        self.gauge: float | None = None  # gthreadsrv_thread_utilization_ratio
        self.of_most: float | None = None  # the same of the threads it may have at most
        self._scraped = (0.0, 0.0)  # busy and all thread time at the last scrape
        self._window: deque[Reading] = deque()

    def step(self, work_s: float, requests: float, expected_s: float, now: float) -> None:
        """Take work for half a second that ends `now`; `expected_s` is what it is on the mean."""
        while self.booting and self.booting[0] <= now - SAMPLE_S:
            self.booting.pop(0)
            self.ready += 1
        threads = self.ready * THREADS
        room = threads * SAMPLE_S
        before_s = self.waiting_s / threads
        todo = self.waiting_s + work_s
        done = min(todo, room)
        self.waiting_s = todo - done
        after_s = self.waiting_s / threads
        short = short_waits(threads, round(1000 * expected_s / room))
        self.busy_s += done
        self.thread_s += room
        self.worker_s += (self.ready + len(self.booting)) * SAMPLE_S
        # What starts in this step has waited for what was before it, and for chance.
        self.started += requests
        self.wait_s += requests * ((before_s + after_s) / 2 + short.mean_s)
        ahead = past(before_s, after_s, LATE_S)
        self.late += requests * (ahead + (1 - ahead) * short.late)
        if self.bounds.least != self.bounds.most:
            self._look(now)

    def scrape(self) -> None:
        """What the gauge says: since the last scrape, which is as long ago as it looks back."""
        busy_s, thread_s = self.busy_s - self._scraped[0], self.thread_s - self._scraped[1]
        if thread_s > 0:
            self.gauge = busy_s / thread_s
            self.of_most = self.gauge * self.ready / self.bounds.most
        self._scraped = self.busy_s, self.thread_s

    def _look(self, now: float) -> None:
        window = self._window
        window.append(
            Reading(
                at=now, target=self.target, ready=self.ready, threads=self.ready * THREADS,
                busy_s=self.busy_s, wait_s=self.wait_s, started=self.started,
                cpu_s=self.busy_s * CPU_SHARE, cpu_wait_s=0.0, cores=CORES, throttled_s=0.0,
                memory_left=None, worker_memory=0.0,
            )
        )  # fmt: skip
        while len(window) > 1 and now - window[1].at >= kept_s(self.bounds):
            window.popleft()
        wanted = decide(window, self.bounds).target
        if wanted > self.target:
            self.booting += [now + BOOT_S] * (wanted - self.target)
        else:
            self.ready -= self.target - wanted
        self.target = wanted


def past(first: float, last: float, limit: float) -> float:
    """Share of a straight line from one to the other that lies above the limit."""
    if first > limit and last > limit:
        return 1.0
    if first <= limit and last <= limit:
        return 0.0
    return (max(first, last) - limit) / abs(first - last)


Metric = Callable[[Pod], "float | None"]


def utilisation(pod: Pod) -> float | None:
    """The gauge."""
    return pod.gauge


def of_most(pod: Pod) -> float | None:
    """Busy share of the threads that it has with all its workers."""
    return pod.of_most


@dataclass(frozen=True)
class Kind:
    """How pods are started, and by what they are counted."""

    name: str
    bounds: Bounds
    metric: Metric = utilisation
    by: str = "utilisation"


@dataclass(frozen=True)
class State:
    """A second's, or a minute's mean."""

    pods: float
    workers: float  # of a pod
    utilisation: float


@dataclass(frozen=True)
class Outcome:
    """One run: how it stood with twice the load, and with the load of before again."""

    high: State
    low: State
    late: float  # share of requests
    worker_s: float
    pod_s: float


HIGH_S: Final = 900
LOW_S: Final = 1200
CALM_BEFORE_S: Final = 300


def run(kind: Kind, pods: int, offered: float, seed: int = 1) -> Outcome:
    """A fleet with `offered` busy threads, for a quarter of an hour twice as many, then as before.

    The first five minutes are not counted.
    """
    times = recorded()
    chance = random.Random(seed)
    gauss = chance.gauss
    autoscaler = Autoscaler()
    fleet = [Pod(kind.bounds, 0.0, chance.randrange(SCRAPE_S)) for _ in range(pods)]
    for pod in fleet:
        # They have been there for long, under a load that needs all their workers.
        pod.target = pod.ready = kind.bounds.most
    gone: list[Pod] = []
    pod_s = 0.0
    late_before = started_before = worker_before = 0.0
    minutes: list[State] = []
    seconds: list[State] = []
    end = CALM_BEFORE_S + HIGH_S + LOW_S
    for tick in range(1, STEPS_A_SECOND * end + 1):
        now = tick * SAMPLE_S
        begun = now - SAMPLE_S
        busy = offered * (2 if CALM_BEFORE_S <= begun < CALM_BEFORE_S + HIGH_S else 1)
        serving = [pod for pod in fleet if pod.ready_at <= begun]
        expected_s = busy * SAMPLE_S / len(serving)
        requests = expected_s / times.mean_s
        deviation_s = math.sqrt(requests * times.square_s2)  # of a compound Poisson sum
        for pod in serving:
            pod.step(max(0.0, gauss(expected_s, deviation_s)), requests, expected_s, now)
        if tick % STEPS_A_SECOND:
            continue
        second = tick // STEPS_A_SECOND
        for pod in serving:
            if second % SCRAPE_S == pod.phase:
                pod.scrape()
        ready = sum(pod.ready for pod in serving)
        used = min(1.0, busy / (ready * THREADS))
        seconds.append(State(len(fleet), ready / len(serving), used))
        if second > CALM_BEFORE_S:
            pod_s += len(fleet)
        if second == CALM_BEFORE_S:
            started_before = sum(pod.started for pod in fleet + gone)
            late_before = sum(pod.late for pod in fleet + gone)
            worker_before = sum(pod.worker_s for pod in fleet + gone)
        if second in (CALM_BEFORE_S + HIGH_S, end):
            minutes.append(_mean(seconds[-60:]))
        if second % SYNC_S == 0:
            found = [value for pod in serving if (value := kind.metric(pod)) is not None]
            wanted = autoscaler.replicas(second, found, len(fleet) - len(found))
            fleet += [
                Pod(kind.bounds, now + START_S, chance.randrange(SCRAPE_S))
                for _ in range(wanted - len(fleet))
            ]
            # The youngest go first, and give what they have to the others.
            left = math.fsum(pod.waiting_s for pod in fleet[wanted:])
            gone += fleet[wanted:]
            del fleet[wanted:]
            for pod in fleet:
                pod.waiting_s += left / len(fleet)
    every = fleet + gone
    return Outcome(
        *minutes,
        late=(sum(pod.late for pod in every) - late_before)
        / (sum(pod.started for pod in every) - started_before),
        worker_s=sum(pod.worker_s for pod in every) - worker_before,
        pod_s=pod_s,
    )


def _mean(states: Sequence[State]) -> State:
    return State(
        pods=sum(state.pods for state in states) / len(states),
        workers=sum(state.workers for state in states) / len(states),
        utilisation=sum(state.utilisation for state in states) / len(states),
    )


KINDS: Final = (
    Kind("2", Bounds(2, 2, CALM_S)),
    Kind("4", Bounds(4, 4, CALM_S)),
    Kind("1:4", Bounds(1, 4, CALM_S)),
    Kind("1:4", Bounds(1, 4, CALM_S), of_most, "share of the most"),
)
SIZES: Final = (10, 100, 450)
"""Pods with two workers that the load is made for at first; twice as many afterwards."""


@functools.cache
def outcome(kind: Kind, size: int) -> Outcome:
    """One line's run. It begins with the pods that fit as many workers as there may be at most."""
    return run(kind, size * 2 // kind.bounds.most, size * 2 * THREADS * TARGET)


def row(kind: Kind, size: int) -> str:
    """One line of the table."""
    found = outcome(kind, size)
    cells = [
        f"{size * 2 * THREADS * TARGET:,.0f}",
        f"`{kind.name}`",
        kind.by,
        *(
            f"{state.pods:,.0f} x {state.workers:.1f} at {state.utilisation:.2f}"
            for state in (found.high, found.low)
        ),
        f"{found.late:.1%}",
        f"{found.pod_s:,.0f}",
        f"{found.worker_s:,.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """A line for each size and kind of pod."""
    lines = [
        (
            "| busy threads before | `--workers` | HPA by | twice as many | as before again | late "
            "| pod seconds | worker seconds |"
        ),
        "|---:|---|---|---|---|---:|---:|---:|",
    ]
    lines += [row(kind, size) for size in SIZES for kind in KINDS]
    return "\n".join(lines)
