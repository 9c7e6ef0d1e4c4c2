"""How a reload goes: try the new revision with one worker first, roll on only if it boots.

A revision is a number for one set of settings, listeners and the code on disk at that time.
Pure state machine, fed by the fleet with events about single workers; it decides which
revision new workers get and when a reload has succeeded or failed. Not here: forking,
draining, reading settings.
"""

from __future__ import annotations

import enum
from typing import Final


class Phase(enum.Enum):
    """Where a reload stands."""

    FIRST_BOOT = "first boot"  # nobody has ever been ready: a broken application ends the server
    STEADY = "steady"
    TRYING = "trying"  # nobody of the newest revision is ready yet: it can be given up
    ROLLING = "rolling"  # it boots, so it is the one; old workers are replaced one at a time


class Event(enum.Enum):
    """What happened, as far as the newest revision is concerned."""

    REQUESTED = "requested"
    BOOTED = "booted"
    FAILED = "failed"
    SETTLED = "settled"


# FIRST_BOOT and FAILED: see `boot_failed`. A failure while ROLLING is not in the table: the code
# has booted before, so it is retried like any crash, with the old workers still serving.
TRANSITIONS: Final[dict[tuple[Phase, Event], Phase]] = {
    (Phase.FIRST_BOOT, Event.REQUESTED): Phase.FIRST_BOOT,
    (Phase.FIRST_BOOT, Event.BOOTED): Phase.STEADY,
    (Phase.STEADY, Event.REQUESTED): Phase.TRYING,
    (Phase.TRYING, Event.REQUESTED): Phase.TRYING,
    (Phase.TRYING, Event.BOOTED): Phase.ROLLING,
    # Back to the revision before, which may itself still be rolling.
    (Phase.TRYING, Event.FAILED): Phase.ROLLING,
    (Phase.ROLLING, Event.REQUESTED): Phase.TRYING,
    (Phase.ROLLING, Event.SETTLED): Phase.STEADY,
}


class Verdict(enum.Enum):
    """What a failed boot means."""

    RETRY = "retry"
    GIVE_UP_REVISION = "give up revision"
    END_SERVER = "end server"


class ReloadPlan:
    """The newest revision, the one to fall back on, and the phase."""

    __slots__ = ("committed", "desired", "newest", "phase", "reloading")

    def __init__(self) -> None:
        self.phase = Phase.FIRST_BOOT
        self.newest = 0  # number last given out
        self.desired = 0  # what a worker forked now gets
        self.committed = 0  # newest revision that has booted
        self.reloading: int | None = None  # the revision whose success is still to be reported

    def requested(self) -> int:
        """A reload was asked for; returns the new revision, which supersedes one on its way."""
        self._move(Event.REQUESTED)
        self.newest += 1
        self.desired = self.newest
        if self.phase is Phase.FIRST_BOOT:
            self.committed = self.desired
        else:
            self.reloading = self.desired
        return self.desired

    def booted(self, revision: int) -> bool:
        """A worker became ready; True when that decides for the newest revision."""
        if self.phase is Phase.FIRST_BOOT:
            # An older revision that boots while the newest is still trying is good enough to
            # start with.
            self._move(Event.BOOTED)
            self.committed = revision
            if not self.newest:
                return True
            # What was asked for meanwhile is an ordinary reload from here on, perhaps booted
            # already: whoever asked is told how it ends.
            self._move(Event.REQUESTED)
            self.reloading = self.desired
            if revision == self.desired:
                self._move(Event.BOOTED)
            return True
        if self.phase is Phase.TRYING and revision == self.desired:
            self._move(Event.BOOTED)
            self.committed = revision
            return True
        return False

    def boot_failed(self, revision: int, *, load_error: bool) -> Verdict:
        """A worker died before it was ready; `load_error`: the application cannot be loaded."""
        if revision != self.desired:
            return Verdict.RETRY
        if self.phase is Phase.FIRST_BOOT:
            # A crash may be chance and is retried; an import error is for a person.
            return Verdict.END_SERVER if load_error else Verdict.RETRY
        if self.phase is Phase.TRYING:
            self._move(Event.FAILED)
            self.desired = self.committed
            self.reloading = None
            return Verdict.GIVE_UP_REVISION
        return Verdict.RETRY

    def settled(self) -> int | None:
        """Only workers of the desired revision are left; returns the revision that succeeded."""
        if self.phase is not Phase.ROLLING:
            return None
        self._move(Event.SETTLED)
        done, self.reloading = self.reloading, None
        return done

    def _move(self, event: Event) -> None:
        self.phase = TRANSITIONS[self.phase, event]
