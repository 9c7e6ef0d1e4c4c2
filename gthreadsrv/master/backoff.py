"""How long to wait before the next worker is forked after one has failed.

Pure policy: instants come in as arguments. One streak for the whole fleet, since what makes
one worker fail (a broken import, a database that refuses) makes the others fail as well.
Used by the master alone; what counts as a failure is the fleet's decision, not made here.
"""

from __future__ import annotations

from typing import Final

# The first retry is nearly at once: a single crash must not be felt. Doubling then passes ten
# seconds at the eighth failure; half a minute keeps a hopeless import from burning a core and
# still picks up a repaired database soon.
FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 30.0

# A worker that has served this long has booted well; what ends it later is another matter.
STABLE_AFTER_S: Final = 1.0


def delay_s(streak: int) -> float:
    """Seconds to wait after the `streak`-th failure in a row; none without a failure."""
    if streak == 0:
        return 0.0
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(streak - 1, 32))


class Backoff:
    """The streak of failures, and the instant before which nothing is forked."""

    __slots__ = ("failed_at", "retry_at", "streak")

    def __init__(self) -> None:
        self.streak = 0
        self.retry_at = float("-inf")
        self.failed_at = float("-inf")

    @property
    def cautious(self) -> bool:
        """Whether to try with one worker at a time until one proves stable."""
        return self.streak > 1

    def pardon(self) -> None:
        """Wait no longer, though what is tried next is still tried with care."""
        self.retry_at = float("-inf")

    def failed(self, spawned_at: float, now: float) -> None:
        """A worker forked at `spawned_at` failed; those forked side by side count once."""
        if spawned_at <= self.failed_at:
            return
        self.streak += 1
        self.failed_at = now
        self.retry_at = now + delay_s(self.streak)

    def succeeded(self, spawned_at: float) -> None:
        """A worker forked at `spawned_at` is stable; one older than the failure says nothing."""
        if spawned_at > self.failed_at:
            self.streak = 0
            self.retry_at = float("-inf")
