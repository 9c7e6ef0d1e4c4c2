"""A fleet of pods and Kubernetes' HorizontalPodAutoscaler: where it settles, how long that takes.

    python -m tests.simulation.pods            # print the tables
    python -m tests.simulation.pods --write    # and put them into docker/SCALING.md

Each pod is a queue of work in front of its threads, in steps of a second. What comes in a step has
the mean and the variance that as many requests of the recorded service times have; a balancer
spreads requests by chance. The autoscaler is in hpa; pods that autoscale their workers as well are in
elastic. Not in it: what happens inside a step (the queueing formulas are for that), clients that
give up, nodes that have to be bought first.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation import elastic
from tests.simulation.hpa import SCRAPE_S, START_S, SYNC_S, TARGET, Autoscaler
from tests.simulation.queueing import LEVELS, Example, pooling, recorded

DOCUMENT = Path(__file__).parents[2] / "docker" / "SCALING.md"
STEP_S = 1
THREADS = 6  # of a pod of docker/kubernetes: two CPUs, two workers of three


@dataclass
class Pod:
    """One pod: its unfinished work, and what Prometheus knows of it."""

    ready_at: int
    phase: int  # when in each interval it is scraped
    waiting_s: float = 0.0  # thread time not yet given
    busy_s: float = 0.0  # thread time given since the last scrape
    since: int = 0
    utilisation: float | None = None

    def step(self, work_s: float, now: int) -> None:
        """Take work for a second, and be scraped when it is time."""
        todo = self.waiting_s + work_s
        done = min(todo, float(THREADS * STEP_S))
        self.waiting_s = todo - done
        self.busy_s += done
        if now % SCRAPE_S == self.phase and now > self.since:
            self.utilisation = self.busy_s / (THREADS * (now - self.since))
            self.busy_s, self.since = 0.0, now


@dataclass
class Course:
    """What was seen each second."""

    pods: list[int] = field(default_factory=list)
    utilisation: list[float] = field(default_factory=list)
    wait_s: list[float] = field(default_factory=list)  # of the mean request, for work that is ahead


def simulate(
    rate: Callable[[int], float], pods: int, seconds: int, autoscaler: Autoscaler, seed: int = 1
) -> Course:
    """Run a fleet; `rate` is requests per second, by the second."""
    times = recorded()
    chance = random.Random(seed)
    gauss = chance.gauss

    def new(ready_at: int) -> Pod:
        return Pod(ready_at, chance.randrange(SCRAPE_S), since=max(0, ready_at))

    fleet = [new(0) for _ in range(pods)]
    course = Course()
    for now in range(1, seconds + 1):
        serving = [pod for pod in fleet if pod.ready_at <= now]
        requests = rate(now) * STEP_S / len(serving)
        mean_s = requests * times.mean_s
        deviation_s = math.sqrt(requests * times.square_s2)  # of a compound Poisson sum
        for pod in serving:
            pod.step(max(0.0, gauss(mean_s, deviation_s)), now)
        course.pods.append(len(fleet))
        offered = rate(now) * times.mean_s
        course.utilisation.append(min(1.0, offered / (THREADS * len(serving))))
        course.wait_s.append(sum(pod.waiting_s for pod in serving) / THREADS / len(serving))
        if now % SYNC_S == 0:
            gauges = [pod.utilisation for pod in serving if pod.utilisation is not None]
            wanted = autoscaler.replicas(now, gauges, len(fleet) - len(gauges))
            fleet += [new(now + START_S) for _ in range(wanted - len(fleet))]
            # The youngest go first, and give what they have to the others.
            for pod in fleet[wanted:]:
                fleet[0].waiting_s += pod.waiting_s
            del fleet[wanted:]
    return course


@dataclass(frozen=True)
class Settling:
    """How one change of load ended."""

    name: str
    first: int
    most: int  # pods there were for a while, to work off what had piled up
    pods: int  # and in the end
    utilisation: float
    recovered_s: (
        int  # after the change: from when on nobody waits for more than a tenth of a second
    )
    wait_s: float  # until then, the worst mean wait for work that was ahead


def rate_for(pods: float, level: float = TARGET) -> float:
    """Requests per second that keep so many pods at this utilisation."""
    return pods * THREADS * level / recorded().mean_s


def settle(name: str, before: int, after: float, minutes: int, target: float = TARGET) -> Settling:
    """Let a fleet that fits meet a load for `after` pods."""
    calm_s = 60
    seconds = calm_s + 60 * minutes

    def rate(now: int) -> float:
        return rate_for(before if now <= calm_s else after)

    course = simulate(rate, before, seconds, Autoscaler(target=target))
    late = [at for at, wait_s in enumerate(course.wait_s, 1) if wait_s > 0.1]
    tail = course.utilisation[-60:]
    return Settling(
        name,
        before,
        max(course.pods),
        course.pods[-1],
        sum(tail) / len(tail),
        max(0, (late[-1] if late else calm_s) - calm_s),
        max(course.wait_s),
    )


SMALL = ("load x 2, few pods", 10, 20, 30)
LARGE = (
    ("load x 1.5", 100, 150, 30),
    ("load x 2", 100, 200, 30),
    ("load x 5", 100, 500, 30),
    ("load x 10", 90, 900, 30),
    ("load x 1/2", 900, 450, 30),
)
TARGETS = (0.5, 0.6, 0.65, 0.7, 0.8)


def row(one: Settling) -> str:
    """One line of the table."""
    return (
        f"| {one.name} | {one.first} | {one.most:,} | {one.pods:,} | {one.utilisation:.2f} "
        f"| {one.recovered_s} s | {one.wait_s:.1f} s |"
    )


def example() -> str:
    """The worked example and the cost of small pods, from the formulas."""
    lines = ["| step | sum | result |", "|---|---|---|"]
    lines += [f"| {name} | {text} | {result} |" for name, text, result in Example().table()]
    lines += ["", "| threads in a pod | " + " | ".join(f"at {level:g}" for level in LEVELS) + " |"]
    lines += ["|---|" + "---|" * len(LEVELS)]
    for size, waits in pooling():
        lines.append(f"| {size} | " + " | ".join(f"{wait:.2f}" for wait in waits) + " |")
    return "\n".join(lines)


def fleets() -> str:
    """The simulated fleets."""
    tail = "at most | in the end | utilisation | no wait after | worst wait |"
    lines = [f"| what changes | pods before | {tail}", "|---|---|---|---|---|---|---|"]
    lines += [row(settle(*one)) for one in (SMALL, *LARGE)]
    lines += ["", f"| target | {tail}"]
    lines += ["|---|---|---|---|---|---|"]
    for target in TARGETS:
        one = settle("", 100, 300, 30, target)
        lines.append(
            f"| {target:g} | {one.most:,} | {one.pods:,} | {one.utilisation:.2f} "
            f"| {one.recovered_s} s | {one.wait_s:.1f} s |"
        )
    return "\n".join(lines)


def block(text: str, name: str) -> re.Match[str]:
    """A generated part of the document.  ValueError where there is none."""
    found = re.search(rf"<!-- {name}:begin[^>]*-->\n(.*?)<!-- {name}:end -->", text, re.DOTALL)
    if found is None:
        raise ValueError(f"no block {name}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.pods")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    options = parser.parse_args(arguments)
    tables = {"example": example(), "fleets": fleets(), "elastic": elastic.table()}
    for table in tables.values():
        print(table, end="\n\n")
    if options.write:
        text = DOCUMENT.read_text()
        for name, table in tables.items():
            found = block(text, name)
            text = text[: found.start(1)] + table + "\n" + text[found.end(1) :]
        DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
