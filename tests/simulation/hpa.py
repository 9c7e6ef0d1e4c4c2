"""Kubernetes' HorizontalPodAutoscaler: the documented algorithm with the behaviour of docker/kubernetes.

Mean of the pods' gauges over the target, tolerance, pods that are starting set aside carefully,
policies, and the stabilisation window for scaling down.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

SYNC_S = 15  # --horizontal-pod-autoscaler-sync-period
SCRAPE_S = 15  # the gauge looks back as far
TOLERANCE = 0.1  # --horizontal-pod-autoscaler-tolerance
START_S = 20  # from the decision to the first request: scheduled, pulled, started, ready
TARGET = 0.65


@dataclass
class Autoscaler:
    """autoscaling/v2 with one metric of kind Pods, and the behaviour of docker/kubernetes."""

    target: float = TARGET
    least: int = 3
    most: int = 1000
    down_window_s: int = 300
    _wanted: deque[tuple[int, int]] = field(default_factory=deque)  # when, recommendation
    _changes: deque[tuple[int, int]] = field(default_factory=deque)  # when, pods more or less

    def replicas(self, now: int, gauges: Sequence[float], without: int) -> int:
        """How many pods there should be; `without` have no gauge yet, since they are starting."""
        current = len(gauges) + without
        wanted = self._recommended(gauges, without)
        self._wanted.append((now, wanted))
        while self._wanted[0][0] <= now - self.down_window_s:
            self._wanted.popleft()
        if wanted < current:
            wanted = min(current, max(number for _, number in self._wanted))
        wanted = self._paced(now, current, wanted)
        wanted = min(self.most, max(self.least, wanted))
        if wanted != current:
            self._changes.append((now, wanted - current))
        return wanted

    def _recommended(self, gauges: Sequence[float], without: int) -> int:
        current = len(gauges) + without
        if not gauges:
            return current
        ratio = math.fsum(gauges) / len(gauges) / self.target
        if not without:
            return current if abs(1 - ratio) <= TOLERANCE else math.ceil(ratio * current)
        # Pods without a number count as idle when more are wanted, as on target when fewer are.
        filling = 0.0 if ratio > 1 else self.target
        careful = (math.fsum(gauges) + filling * without) / current / self.target
        if abs(1 - careful) <= TOLERANCE or (ratio > 1) != (careful > 1):
            return current
        return math.ceil(careful * current)

    def _paced(self, now: int, current: int, wanted: int) -> int:
        def before(window_s: int) -> int:
            return current - sum(change for when, change in self._changes if when > now - window_s)

        while self._changes and self._changes[0][0] <= now - 60:
            self._changes.popleft()
        if wanted > current:
            start = before(30)
            return max(current, min(wanted, max(2 * start, start + 4)))
        return min(current, max(wanted, math.floor(before(60) * 0.9)))
