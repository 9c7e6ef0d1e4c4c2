"""The goals, and whether the samples meet them.

A ratio compares ours with a peer in the same round, neighbours in time, and is the median over the
rounds: a machine that is slow for a while is slow for both. Pure: numbers in, verdicts out.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.peers.running import Sample
from tests.bench.peers.servers import OURS, OURS_H11

# By row, by entry, by round; None where it could not be measured.
Results = Mapping[str, Mapping[str, Sequence[Sample | None]]]

BEST = "the best peer"


@dataclass(frozen=True)
class Goal:
    """One promise: a number of ours, or its ratio to (or its difference from) another entry's."""

    row: str
    text: str
    metric: str
    against: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    ours: str = OURS
    difference: bool = False

    def met(self, value: float) -> bool:
        """Whether the number keeps it."""
        return (self.at_most is None or value <= self.at_most) and (
            self.at_least is None or value >= self.at_least
        )


@dataclass(frozen=True)
class Verdict:
    """A goal with its numbers; `value` is what is compared with the limit, None if unmeasured."""

    goal: Goal
    ours: float | None
    peer: str
    theirs: float | None
    value: float | None

    @property
    def word(self) -> str:
        """For the table."""
        if self.value is None:
            return "not measured"
        return "yes" if self.goal.met(self.value) else "no"


LOGGED, SILENT = f"{OURS}, logged", f"{OURS}, silent"
ONE_WORKER, TWO_WORKERS = f"{OURS}, 1 worker", f"{OURS}, 2 workers"

GOALS = (
    Goal("hello", "hello world, CPU per request", "cpu_us", "granian", at_most=0.9),
    Goal("hello", "hello world, CPU per request", "cpu_us", "gunicorn", at_most=1 / 8),
    Goal("hello", "hello world, CPU per request", "cpu_us", "bjoern", at_most=1.2),
    Goal("hello", "hello world by h11, CPU per request", "cpu_us", "gunicorn", at_most=1 / 2,
         ours=OURS_H11),
    Goal("hello", "hello world, p99", "p99_ms", "granian", at_most=1),
    Goal("flask", "Flask page, requests/s", "rate", "granian", at_least=1),
    Goal("django", "Django page, requests/s", "rate", "granian", at_least=1),
    Goal("sleep-5ms", "5 ms handler, share of 8 / 5 ms", "of_ideal", at_least=0.97),
    Goal("sleep-5ms", "5 ms handler, requests/s", "rate", "granian", at_least=1),
    Goal("sleep-50ms", "50 ms handler, share of 8 / 50 ms", "of_ideal", at_least=0.97),
    Goal("sleep-50ms", "50 ms handler, requests/s", "rate", "granian", at_least=1),
    Goal("beside", "fast beside slow requests, p99", "p99_ms", "granian", at_most=1),
    Goal("cpu-2ms", "2 ms of computing, 8 threads, share of 1 / 2 ms", "of_ideal", at_least=0.98),
    Goal("cpu-2ms", "2 ms of computing, 8 threads, p99", "p99_ms", f"{OURS}, 1 thread", at_most=1),
    Goal("post", "1 MiB posted, bytes per CPU second", "bytes_per_cpu_s", BEST, at_least=1),
    Goal("large", "1 MiB response, bytes per CPU second", "bytes_per_cpu_s", BEST, at_least=1),
    Goal("file", "100 MiB file, bytes per CPU second", "bytes_per_cpu_s", BEST, at_least=1),
    Goal("workers", "2 workers on 2 cores, requests/s", "rate", ONE_WORKER, at_least=1.9,
         ours=TWO_WORKERS),
    Goal("idle", "10,000 idle connections, memory of each", "idle_kib", at_most=4),
    # Less than the clock of a heartbeat can tell from nothing.
    Goal("idle", "10,000 idle connections, CPU", "idle_cpu_percent", at_most=0.1),
    # Two runs of one server differ by that much.
    Goal("idle", "10,000 idle connections, p99 of others with : without", "p99_ratio", at_most=1.1),
    Goal("close", "a connection per request, CPU per request", "cpu_us", "gunicorn", at_most=0.5),
    Goal("memory", "the server's own memory", "pss_kib", "gunicorn", at_most=1),
    Goal("log", "access log, more CPU per request", "cpu_us", SILENT, at_most=6, ours=LOGGED,
         difference=True),
    Goal("boot", "boot to first response", "boot_ms", "gunicorn", at_most=1),
)  # fmt: skip

HIGHER_IS_BETTER = {"rate", "bytes_per_cpu_s", "of_ideal"}


def values(results: Results, row: str, key: str, metric: str) -> dict[int, float]:
    """The metric by round."""
    samples = results.get(row, {}).get(key, ())
    return {
        number: sample[metric]
        for number, sample in enumerate(samples)
        if sample is not None and metric in sample
    }


def median(results: Results, row: str, key: str, metric: str) -> float | None:
    """Over the rounds; None without one."""
    found = values(results, row, key, metric)
    return statistics.median(found.values()) if found else None


def best_peer(results: Results, row: str, metric: str) -> str | None:
    """The other server with the best median."""
    medians = {
        key: value
        for key in results.get(row, {})
        if not key.startswith(OURS) and (value := median(results, row, key, metric)) is not None
    }
    if not medians:
        return None
    choose = max if metric in HIGHER_IS_BETTER else min
    return choose(medians, key=medians.__getitem__)


def judge(goal: Goal, results: Results) -> Verdict:
    """Compare."""
    ours = values(results, goal.row, goal.ours, goal.metric)
    own = statistics.median(ours.values()) if ours else None
    if goal.against is None:
        return Verdict(goal, own, "", None, own)
    peer = best_peer(results, goal.row, goal.metric) if goal.against == BEST else goal.against
    theirs = values(results, goal.row, peer, goal.metric) if peer else {}
    both = [
        ours[number] - theirs[number] if goal.difference else ours[number] / theirs[number]
        for number in ours
        if theirs.get(number)
    ]
    return Verdict(
        goal,
        own,
        peer or goal.against,
        statistics.median(theirs.values()) if theirs else None,
        statistics.median(both) if both else None,
    )
