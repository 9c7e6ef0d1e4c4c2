"""How the server stops: linger, drain, quit, kill, each with its deadline.

Pure state machine, fed with signals and instants by the arbiter, which acts on each phase it
enters. Not here: what a phase does to listeners and workers.
"""

from __future__ import annotations

import enum
from typing import Final

# Longest time that INT and QUIT leave to running requests.
QUICK_GRACE_S: Final = 2.0

# A terminal and a process manager may both deliver the same signal (Ctrl-C under a wrapper that
# forwards it; TERM to the group and to its leader): so soon after, it is the same order.
_ECHO_S: Final = 0.3


class Phase(enum.Enum):
    """From running to gone."""

    RUNNING = "running"
    LINGERING = "lingering"  # readiness says no, everything else goes on for the drain delay
    DRAINING = "draining"  # no new connections, requests finish
    QUITTING = "quitting"  # workers leave at once
    KILLING = "killing"


class Event(enum.Enum):
    """What moves it on."""

    TERM = "TERM"
    QUIT = "INT or QUIT"
    DEADLINE = "deadline"


TRANSITIONS: Final[dict[tuple[Phase, Event], Phase]] = {
    (Phase.RUNNING, Event.TERM): Phase.LINGERING,
    (Phase.RUNNING, Event.QUIT): Phase.QUITTING,
    (Phase.LINGERING, Event.TERM): Phase.DRAINING,
    (Phase.LINGERING, Event.QUIT): Phase.QUITTING,
    (Phase.LINGERING, Event.DEADLINE): Phase.DRAINING,
    (Phase.DRAINING, Event.TERM): Phase.QUITTING,
    (Phase.DRAINING, Event.QUIT): Phase.QUITTING,
    (Phase.DRAINING, Event.DEADLINE): Phase.KILLING,
    (Phase.QUITTING, Event.TERM): Phase.KILLING,
    (Phase.QUITTING, Event.QUIT): Phase.KILLING,
    (Phase.QUITTING, Event.DEADLINE): Phase.KILLING,
    (Phase.KILLING, Event.TERM): Phase.KILLING,
    (Phase.KILLING, Event.QUIT): Phase.KILLING,
}


class Shutdown:
    """The phase, and the instant at which it ends by itself."""

    __slots__ = ("_last", "deadline", "phase")

    def __init__(self) -> None:
        self.phase = Phase.RUNNING
        self.deadline: float | None = None
        self._last: tuple[Event, float] | None = None

    def signal(
        self, event: Event, now: float, *, drain_delay_s: float, graceful_timeout_s: float
    ) -> bool:
        """TERM, or INT and QUIT; whether the phase changed. The times are today's settings."""
        last, self._last = self._last, (event, now)
        if last is not None and last[0] is event and now - last[1] < _ECHO_S:
            return False
        return self._move(event, now, drain_delay_s, graceful_timeout_s)

    def tick(self, now: float, *, graceful_timeout_s: float) -> bool:
        """The deadline may have passed; whether the phase changed."""
        if self.deadline is None or now < self.deadline:
            return False
        return self._move(Event.DEADLINE, now, 0.0, graceful_timeout_s)

    def _move(
        self, event: Event, now: float, drain_delay_s: float, graceful_timeout_s: float
    ) -> bool:
        before = self.phase
        self.phase = TRANSITIONS[before, event]
        if self.phase is Phase.LINGERING and drain_delay_s <= 0.0:
            self.phase = Phase.DRAINING
        if self.phase is before:
            return False
        grace_s = {
            Phase.LINGERING: drain_delay_s,
            Phase.DRAINING: graceful_timeout_s,
            Phase.QUITTING: min(QUICK_GRACE_S, graceful_timeout_s),
        }.get(self.phase)
        self.deadline = None if grace_s is None else now + grace_s
        return True
