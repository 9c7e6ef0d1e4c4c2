"""The loads: requests a second, and how long one takes, over time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SERVICE_S = 0.1
"""Mean time of a request in the application, exponentially distributed."""


def _steady(_second: float) -> float:
    return SERVICE_S


@dataclass(frozen=True)
class Shape:
    """One load."""

    name: str
    seconds: float
    rate: Callable[[float], float]  # second -> requests a second
    service_s: Callable[[float], float] = _steady

    def arrivals(self, seed: int) -> Iterator[tuple[float, float]]:
        """When each request comes, and how long it will take; by chance, the same each time."""
        chance = random.Random(f"{seed} {self.name}")
        # Thinning (Lewis and Shedler 1979): arrivals at the highest rate, of which each is kept
        # with the share that the rate of its moment has.
        highest = max(self.rate(second / 4) for second in range(int(4 * self.seconds)))
        at = 0.0
        while (at := at + chance.expovariate(highest)) < self.seconds:
            if chance.random() * highest < self.rate(at):
                yield at, chance.expovariate(1.0 / self.service_s(at))


def _steps(second: float) -> float:
    return (20.0, 60.0, 120.0, 60.0, 20.0)[min(int(second // 120), 4)]


def _bursts(second: float) -> float:
    return 180.0 if second % 100 >= 85 else 20.0


def _day(second: float) -> float:
    """Night, a morning's rise, noon, and an evening peak."""
    hour = second / 30.0
    noon = 70.0 * math.exp(-(((hour - 12.0) / 3.5) ** 2))
    evening = 90.0 * math.exp(-(((hour - 20.0) / 2.0) ** 2))
    return 8.0 + noon + evening


def _back_end(second: float) -> float:
    return 0.5 if 200 <= second < 400 else SERVICE_S


SHAPES = (
    Shape("steps", 600, _steps),
    Shape("bursts", 600, _bursts),
    Shape("a day in 12 minutes", 720, _day),
    Shape("slow back end", 600, lambda _second: 40.0, _back_end),
)
