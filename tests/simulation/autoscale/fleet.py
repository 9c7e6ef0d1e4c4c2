"""A fleet as a queue: so many threads, one line, and a policy that may look twice a second."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from gthreadsrv.master.autoscale import SAMPLE_S, Bounds, Reading, decide, kept_s

THREADS = 4
BOOT_S = 2.0
"""From a worker's fork to its readiness: an application of some size."""
CORES = 8.0
CPU_SHARE = 0.2
"""Of a request's time in which it computes; the rest it waits for others."""
LATE_S = 0.1
"""A request that has waited longer for a thread is late."""


@dataclass(frozen=True)
class Outcome:
    """What a run has cost, and what it was worth."""

    requests: int
    late: int
    worst_wait_s: float
    worker_seconds: float
    most_workers: int


class Fleet:
    """One run."""

    def __init__(self, bounds: Bounds, threads: int = THREADS) -> None:
        self.bounds = bounds
        self.threads = threads  # of a worker
        self.now = 0.0
        self.target = self.ready = self.most = bounds.least
        self.booting: list[float] = []  # when each will be ready
        self.running: list[float] = []  # when each request will be done, a heap
        self.queue: deque[tuple[float, float]] = deque()  # arrival, duration
        self.busy_s = self.wait_s = self.worker_s = 0.0
        self.started = self.late = 0
        self.worst_s = 0.0
        self.window: deque[Reading] = deque()

    def run(self, arrivals: Iterable[tuple[float, float]]) -> Outcome:
        """Serve them all."""
        look_at = SAMPLE_S
        for at, duration_s in arrivals:
            while look_at <= at:
                self._advance(look_at)
                self._look()
                look_at += SAMPLE_S
            self._advance(at)
            self.queue.append((at, duration_s))
            self._start()
        while self.running:
            self._advance(self.running[0])
        return Outcome(self.started, self.late, self.worst_s, self.worker_s, self.most)

    def _advance(self, until: float) -> None:
        """Let time pass: requests end, workers become ready, requests start."""
        while True:
            events = [until]
            if self.running:
                events.append(self.running[0])
            if self.booting:
                events.append(self.booting[0])
            at = min(events)
            self.busy_s += len(self.running) * (at - self.now)
            self.worker_s += (self.ready + len(self.booting)) * (at - self.now)
            self.now = at
            if self.running and self.running[0] <= at:
                heapq.heappop(self.running)
            elif self.booting and self.booting[0] <= at:
                self.booting.pop(0)
                self.ready += 1
            else:
                return
            self._start()

    def _start(self) -> None:
        while self.queue and len(self.running) < self.ready * self.threads:
            at, duration_s = self.queue.popleft()
            wait_s = self.now - at
            self.wait_s += wait_s
            self.started += 1
            self.late += wait_s > LATE_S
            self.worst_s = max(self.worst_s, wait_s)
            heapq.heappush(self.running, self.now + duration_s)

    def _look(self) -> None:
        if self.bounds.least == self.bounds.most:
            return
        self.window.append(
            Reading(
                at=self.now, target=self.target, ready=self.ready, threads=self.ready * self.threads,
                busy_s=self.busy_s, wait_s=self.wait_s, started=self.started,
                cpu_s=self.busy_s * CPU_SHARE, cpu_wait_s=0.0, cores=CORES, throttled_s=0.0, memory_left=None,
                worker_memory=0.0,
            )
        )  # fmt: skip
        while len(self.window) > 1 and self.now - self.window[1].at >= kept_s(self.bounds):
            self.window.popleft()
        wanted = decide(self.window, self.bounds).target
        if wanted > self.target:
            self.booting += [self.now + BOOT_S] * (wanted - self.target)
        else:
            # One that leaves finishes what it has: its threads are not given new requests.
            self.ready -= self.target - wanted
        self.target = wanted
        self.most = max(self.most, wanted)
