"""A worker's main thread: signals, heartbeat, and the leader's stand-in.

It sleeps until the next heartbeat while nothing happens.  While the leader runs requests
itself it looks every millisecond whether one of them has become slow, and if so gives the
lead to a follower.  It never serves, and never waits for anything but its poll.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

from gthreadsrv.worker.connection import State
from gthreadsrv.worker.poller import READ, make_poller
from gthreadsrv.worker.pool import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from gthreadsrv.worker.channel import WorkerChannel
    from gthreadsrv.worker.drain import Drain
    from gthreadsrv.worker.pool import Pool
    from gthreadsrv_metrics.scoreboard import SlotRow

__all__ = ["BEAT_S", "SIGNALS", "Watchdog"]

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
"""Orders from the master."""

BEAT_S: Final = 1.0
"""Between heartbeats."""

_GRAIN_S = 0.1
"""Between looks for connections that are late, where some are: a second's worth of them ended
together would be a burst of work, and of clients that come back together."""

_DRAIN_BEAT_S = 0.02
"""Between looks at a pool that drains: its end must not wait for a heartbeat."""

_CALM_TICKS = 100
"""Idle looks after which the watchdog goes to sleep.  Rousing it costs two system calls
and a thread switch, which a request every few milliseconds should not pay."""


class Watchdog:
    """Runs on the main thread, since Python delivers signals there."""

    def __init__(
        self,
        pool: Pool,
        slot: SlotRow,
        channel: WorkerChannel,
        drain: Drain,
        *,
        threads: int,
        reopen_logs: Callable[[], None],
        beat: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._slot = slot
        self._channel = channel
        self._drain = drain
        self._threads = threads
        self._reopen_logs = reopen_logs
        self._on_beat = beat
        self._hasty = False
        self._calm = 0
        self._next_beat = 0.0
        self._next_look = 0.0
        self._arrived: deque[int] = deque()
        self._armed = False
        self._signal_fd, self._signal_end = os.pipe()
        self._poller = make_poller()

    def arm(self) -> None:
        """Take over the signals; before the first thread serves, or a TERM would kill it."""
        for fd in (self._signal_fd, self._signal_end):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._signal_end, warn_on_full_buffer=False)
        self._armed = True
        for number in SIGNALS:
            signal.signal(number, self._note)
        # The application's import may have held them back, and ABRT with them.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*SIGNALS, signal.SIGABRT))

    def disarm(self) -> None:
        """Give signals back their own meaning: in a child that the application forked."""
        if not self._armed:
            return
        self._armed = False
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            if signal.getsignal(number) == self._note:
                signal.signal(number, signal.SIG_DFL)
        self._poller.close()
        os.close(self._signal_fd)
        os.close(self._signal_end)

    def run(self) -> bool:
        """Watch until the pool has stopped (True) or must be left as it is (False)."""
        pool = self._pool
        signal_fd = self._signal_fd
        poller = self._poller
        for fd in (signal_fd, pool.watchdog_fd, self._channel.fileno()):
            poller.add(fd, READ)
        try:
            while not pool.stopped.is_set() and not self._hasty:
                timeout_s = self._sleep_s(monotonic())
                asked = monotonic()
                for fd, _mask in poller.poll(timeout_s):
                    if fd == signal_fd:
                        os.read(signal_fd, 512)
                    elif fd == pool.watchdog_fd:
                        pool.watchdog_roused()
                        self._calm = 0
                        if pool.limit_reached:
                            # The master hears of it with the heartbeat.
                            self._next_beat = 0.0
                    elif self._channel.master_gone():
                        poller.remove(fd)
                        self._drain.begin_without_master()
                self._on_signals()
                self._tick(asked + timeout_s)
        finally:
            self._armed = False
            signal.set_wakeup_fd(-1)
            poller.close()
            os.close(signal_fd)
            os.close(self._signal_end)
        return not self._hasty

    def _sleep_s(self, now: float) -> float:
        if self._drain.begun:
            return _DRAIN_BEAT_S
        if self._threads == 1 or self._calm >= _CALM_TICKS:
            # From here on the leader rouses us when it next runs a request itself; one that
            # began a moment ago has not seen the flag.
            self._pool.watchdog_sleeps = self._threads > 1
            if not (self._pool.watchdog_sleeps and self._pool.inline_since):
                look = max(self._pool.earliest, self._next_look)
                return max(0.0, min(self._next_beat, look) - now)
        return PATIENCE_S

    def _tick(self, due: float) -> None:
        pool = self._pool
        now = monotonic()
        if pool.inline_since:
            self._calm = 0
            pool.promote(now)
        else:
            self._calm += 1
        if self._drain.begun:
            pool.poke()
        if now >= pool.earliest and now >= self._next_look:
            self._next_look = now + _GRAIN_S
            pool.poke()
        if now >= self._next_beat:
            self._beat(now, due)

    def _beat(self, now: float, due: float) -> None:
        pool = self._pool
        self._next_beat = now + BEAT_S
        self._slot.heartbeat(now)
        pool.clock.sample()
        self._slot.interpreter_wait(max(0.0, now - due))
        states = [one.state for one in list(pool.connections.values())]
        self._slot.connections(
            states.count(State.READING) + states.count(State.HANDSHAKING),
            states.count(State.ACTIVE),
            states.count(State.WRITING),
            states.count(State.IDLE),
        )
        self._on_beat()

    def _on_signals(self) -> None:
        while self._arrived:
            number = self._arrived.popleft()
            if number == signal.SIGTERM:
                self._drain.begin()
            elif number in (signal.SIGINT, signal.SIGQUIT):
                self._hasty = True
            elif number == signal.SIGUSR1:
                self._reopen_logs()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        # The bytes in the pipe only wake: a forked child's handler writes into it as well.
        self._arrived.append(number)
