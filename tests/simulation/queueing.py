"""Queueing arithmetic for pods of threads, and the worked example of docker/SCALING.md.

A pod is one queue with `workers x threads` servers: a worker accepts only while it has a free
thread, so what waits waits in the kernel's one queue. Times in seconds, rates per second.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path

RECORDED = Path(__file__).with_name("service_times.json")


@dataclass(frozen=True)
class ServiceTimes:
    """The first two moments of how long requests hold a thread."""

    mean_s: float
    square_s2: float

    @property
    def variation(self) -> float:
        """Variance over squared mean: 0 for always the same, 1 for exponential times."""
        return self.square_s2 / self.mean_s**2 - 1


@functools.cache
def recorded() -> ServiceTimes:
    """What was recorded from a real server."""
    times = [ms / 1000 for ms in json.loads(RECORDED.read_text())["milliseconds"]]
    # fsum: the same to the last bit in every Python, so that tables can be compared.
    squares = math.fsum(time * time for time in times)
    return ServiceTimes(math.fsum(times) / len(times), squares / len(times))


def waiting_share(servers: int, offered: float) -> float:
    """Erlang's C: the share of requests that find all servers busy.

    `offered` is rate x service time, in busy servers; at or above `servers` everybody waits.
    """
    if offered >= servers:
        return 1.0
    # By the recursion of Erlang's B, which has no large factorials.
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def mean_wait_s(servers: int, rate: float, times: ServiceTimes) -> float:
    """Mean wait of all requests: M/M/c, corrected for the variation (Allen and Cunneen)."""
    offered = rate * times.mean_s
    if offered >= servers:
        return math.inf
    exponential = waiting_share(servers, offered) * times.mean_s / (servers - offered)
    return exponential * (1 + times.variation) / 2


def wait_exceeded_by_s(share: float, servers: int, rate: float, times: ServiceTimes) -> float:
    """The wait that this share of requests exceeds, in M/M/c with the same correction."""
    offered = rate * times.mean_s
    waiting = waiting_share(servers, offered)
    if waiting <= share:
        return 0.0
    if offered >= servers:
        return math.inf
    exponential = times.mean_s / (servers - offered) * math.log(waiting / share)
    return exponential * (1 + times.variation) / 2


@dataclass(frozen=True)
class Example:
    """The service that docker/SCALING.md sizes."""

    rate: float = 2000.0
    service_s: float = 0.050
    cpu_s: float = 0.006
    target: float = 0.65
    pod_cpus: int = 2
    pod_threads: int = 16  # 2 workers of 8

    @property
    def times(self) -> ServiceTimes:
        """Exponential service times."""
        return ServiceTimes(self.service_s, 2 * self.service_s**2)

    @property
    def busy_threads(self) -> float:
        """By the utilisation law."""
        return self.rate * self.service_s

    @property
    def busy_cpus(self) -> float:
        """The same for CPUs."""
        return self.rate * self.cpu_s

    @property
    def threads_per_cpu(self) -> float:
        """Threads that keep one CPU busy: more of them only wait for it."""
        return self.service_s / self.cpu_s

    @property
    def pods(self) -> int:
        """For the target."""
        return math.ceil(self.busy_threads / self.target / self.pod_threads)

    def table(self) -> list[tuple[str, str, str]]:
        """Step, sum and result, as the document has them."""
        pods = self.pods
        utilisation = self.busy_threads / (pods * self.pod_threads)
        cpu = self.busy_cpus / (pods * self.pod_cpus)
        rate = self.rate / pods
        waiting = waiting_share(self.pod_threads, rate * self.service_s)
        mean_ms = 1000 * mean_wait_s(self.pod_threads, rate, self.times)
        late_ms = 1000 * wait_exceeded_by_s(0.01, self.pod_threads, rate, self.times)
        lost = self.busy_threads / (pods * self.pod_threads * 2 / 3)
        r, s, c = (
            f"{self.rate:,.0f}/s",
            f"{1000 * self.service_s:g} ms",
            f"{1000 * self.cpu_s:g} ms",
        )
        return [
            ("busy threads", f"{r} x {s}", f"{self.busy_threads:.0f}"),
            ("busy CPUs", f"{r} x {c}", f"{self.busy_cpus:.0f}"),
            ("threads for a CPU, at most", f"{s} / {c}", f"{self.threads_per_cpu:.1f}"),
            (
                f"threads for {self.target:g}",
                f"{self.busy_threads:.0f} / {self.target:g}",
                f"{self.busy_threads / self.target:.0f}",
            ),
            (
                f"pods of {self.pod_threads} threads and {self.pod_cpus} CPUs",
                f"{self.busy_threads / self.target:.0f} / {self.pod_threads}, rounded up",
                f"{pods}",
            ),
            (
                "thread utilisation",
                f"{self.busy_threads:.0f} / {pods * self.pod_threads}",
                f"{utilisation:.3f}",
            ),
            ("CPU utilisation", f"{self.busy_cpus:.0f} / {pods * self.pod_cpus}", f"{cpu:.3f}"),
            (
                "requests that wait",
                f"M/M/{self.pod_threads}, {rate:.1f}/s a pod",
                f"{100 * waiting:.1f} %",
            ),
            ("mean wait", "the same", f"{mean_ms:.2f} ms"),
            ("wait that one in a hundred exceeds", "the same", f"{late_ms:.1f} ms"),
            (
                "utilisation with one zone of three gone",
                f"{utilisation:.3f} x 3 / 2",
                f"{lost:.3f}",
            ),
        ]


POOLS = (1, 2, 4, 8, 16, 32)
LEVELS = (0.5, 0.65, 0.8, 0.9)


def pooling() -> list[tuple[int, list[float]]]:
    """Mean wait in service times, by threads of a pod and utilisation."""
    one = ServiceTimes(1.0, 2.0)
    return [(size, [mean_wait_s(size, size * level, one) for level in LEVELS]) for size in POOLS]
