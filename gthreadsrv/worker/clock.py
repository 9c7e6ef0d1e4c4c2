"""Whether the wall clock has been set: the kernel's arrival times are wall-clock times.

Queue time is the wall clock's now less the kernel's stamp.  Where the clock is set in between
(NTP at boot, a machine resumed, an operator), the difference is the step, and one such sample
ruins a sum for ever.  The watchdog samples the clock with each beat; a serving thread asks only
about a time that looks odd, so the usual request pays nothing.
"""

from __future__ import annotations

from math import inf
from time import monotonic, time

__all__ = ["ODD_S", "ClockWatch"]

ODD_S = 0.5
"""A queue time from here on is looked at twice, and an offset that moves so far is a step.

An NTP daemon that slews is 0.5 ms a second off at most; larger differences it steps, and a step
of less than this is no more than a slow request.
"""


class ClockWatch:
    """How far the wall clock is ahead of the monotonic one.  Written by the watchdog alone."""

    __slots__ = ("_offset_s", "_stepped_at")

    def __init__(self) -> None:
        self._offset_s = time() - monotonic()
        self._stepped_at = -inf

    def sample(self) -> None:
        """Look at both clocks.  The watchdog, at each beat."""
        now = monotonic()
        offset_s = time() - now
        if abs(offset_s - self._offset_s) >= ODD_S:
            self._stepped_at = now
        self._offset_s = offset_s

    def spoils(self, queue_s: float) -> bool:
        """Say whether a time of ``queue_s`` until now may hold a step of the clock.

        It does when the clock has moved since the last sample, or when a request that has
        waited so long would have come before the last step.
        """
        now = monotonic()
        if abs(time() - now - self._offset_s) >= ODD_S:
            return True
        return queue_s < 0.0 or queue_s > now - self._stepped_at
