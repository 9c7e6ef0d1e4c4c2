"""The threads of one worker: who leads, who follows, and how the lead changes hands.

Leader/Followers (POSA2).  One thread, the leader, polls and reads.  What it then does
with a complete request depends on how long this application's requests have been taking:

* fast: the leader runs the request itself and polls again.  Should that request turn out
  slow, the watchdog gives the lead to a follower after `PATIENCE_S`.
* slow: the leader hands the requests it has read to followers side by side, gives one
  more follower the lead, and runs the last request itself.  No thread waits on a queue.

With every thread in the application nobody leads: the worker takes nothing new until the
first of them is done.  That time is counted as saturated.

`Pool.lock` guards `leader`, `idle`, `saturated`, `inline_since`, lowering `earliest`, and
each connection's `polled` and its moves out of ACTIVE.  It is never held over a system call
that can wait.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

from gthreadsrv.worker.clock import ClockWatch
from gthreadsrv.worker.connection import ACTIVE, CLOSED, LINGERING, WRITING, State
from gthreadsrv.worker.poller import READ, WRITE, make_poller

if TYPE_CHECKING:
    from gthreadsrv.worker.connection import Connection
    from gthreadsrv.worker.thread import PoolThread
    from gthreadsrv_metrics.scoreboard import SlotRow

__all__ = ["PACE_WEIGHT", "PATIENCE_S", "SLOW_S", "Order", "Pool", "Turn"]

PATIENCE_S = 0.001
"""How long a leader may be in the application before a follower gets the lead."""

SLOW_S = 0.0005
"""From this average on requests are handed out.  A hand-over costs some 50 us: a tenth."""

PACE_WEIGHT = 0.1
"""How much of `Pool.pace_s` one request's time makes."""


class Order(Enum):
    """What a parked thread may be woken for, besides a connection to serve."""

    LEAD = 1
    STOP = 2


class Turn(Enum):
    """What a thread does after a request."""

    LEAD = 1
    PARK = 2
    AGAIN = 3
    """Serve the same connection's next request."""


# Module names, as for `State`: each look at an enum's member costs 175 ns on CPython 3.11.
LEAD = Turn.LEAD
PARK = Turn.PARK
AGAIN = Turn.AGAIN


class Pool:
    """What the threads of a worker share."""

    def __init__(self, slot: SlotRow, max_requests: int = 0, fast_s: float = SLOW_S) -> None:
        """``fast_s`` 0 hands on the lead before every request."""
        self.lock = threading.Lock()
        self.leader: PoolThread | None = None
        self.idle: list[PoolThread] = []
        """Parked threads, the warmest last."""
        self.ready: deque[Connection] = deque()
        """Connections whose request is complete.  Only the leader takes from it."""
        self.events: deque[tuple[int, int]] = deque()
        """Reported by the poller, not yet looked at.  Only the leader touches it."""
        self.connections: dict[int, Connection] = {}
        self.fresh: deque[Connection] = deque()
        """Accepted a moment ago and still silent.  Only the leader touches it."""
        self.rush_until = 0.0
        """Until this instant no connection is `fresh`.  Only the leader touches it."""
        self.in_hand = 0
        """Requests the leader has read and not started yet.  Only the leader touches it."""
        self.accepting = True
        self.paused = False
        """Whether the poller does not report new connections now.  Only the leader sets it."""
        self.resume_at = 0.0
        """No accept before this instant: the process ran out of descriptors or memory."""
        self.room_at = 0.0
        """At the limit of connections nobody can be closed for another before this instant.  Only
        the leader touches it."""
        self.complain_at = 0.0
        """No log line about that before this instant.  Only the leader touches it."""
        self.clock = ClockWatch()
        self.poller = make_poller()
        self.pace_s = SLOW_S * 2
        """Moving average of the time in the application.  Unknown counts as slow."""
        self.fast_s = fast_s
        """Below this pace the leader runs requests itself."""
        self.inline_since = 0.0
        """When the leader entered the application without giving up the lead; else 0."""
        self.saturated = False
        self.closing = False
        """Responses end their connection: the worker drains."""
        self.closing_since = 0.0
        """Since when (monotonic); set before `closing`."""
        self.close_reason = "shutdown"
        self.forked = False
        """Whether this is the copy in a child that the application forked."""
        self.forked_by = 0
        """Which thread did, there."""
        self.stopped = threading.Event()
        self.earliest = float("inf")
        """No connection's deadline is before this instant, but for those of `unswept`.  May be
        too early, never late."""
        self.unswept: list[Connection] = []
        """Still to be looked at for a deadline that has passed.  Only the leader touches it."""
        self.sweep_at = 0.0
        """When it goes on with those.  Only the leader touches it."""
        self.watchdog_sleeps = False
        self.requests_left = max_requests or -1
        """Requests until this worker asks to be replaced; never 0 without a limit."""
        self.limit_reached = False
        self._slot = slot
        self._poke_read, self._poke_write = os.pipe()
        os.set_blocking(self._poke_read, False)
        os.set_blocking(self._poke_write, False)
        self._watch_read, self._watch_write = os.pipe()
        os.set_blocking(self._watch_read, False)
        os.set_blocking(self._watch_write, False)
        self.poller.add(self._poke_read, READ)

    # -- wake-ups ---------------------------------------------------------------------

    @property
    def poke_fd(self) -> int:
        """Readable after `poke`."""
        return self._poke_read

    @property
    def watchdog_fd(self) -> int:
        """Readable after `rouse_watchdog`."""
        return self._watch_read

    def poke(self) -> None:
        """Make the leader look at its deadlines and flags.  Any thread."""
        _ring(self._poke_write)

    def poked(self) -> None:
        """Take note of `poke`.  The leader."""
        _hush(self._poke_read)

    def rouse_watchdog(self) -> None:
        """End the watchdog's sleep.  Any thread."""
        self.watchdog_sleeps = False
        _ring(self._watch_write)

    def watchdog_roused(self) -> None:
        """Take note of `rouse_watchdog`.  The watchdog."""
        _hush(self._watch_read)

    # -- the lead ---------------------------------------------------------------------

    def free_threads(self) -> int:
        """Return how many requests could start now.  The leader, which counts itself."""
        return 1 + len(self.idle) - len(self.ready) - self.in_hand

    def go_inline(self, now: float) -> None:
        """Note that the leader enters the application and keeps the lead.  The leader."""
        if not self.idle:
            # Under the lock, and while the watchdog cannot take the lead away yet: a thread
            # may be coming back this moment.
            with self.lock:
                if not self.idle and not self.saturated:
                    self._saturate(now)
        self.inline_since = now
        if self.watchdog_sleeps:
            self.rouse_watchdog()

    def hand_on(self, others: list[Connection], now: float) -> None:
        """Start ``others`` on followers and give the lead away.  The leader.

        There must be a follower for each of ``others``; the lead goes to one more, or to
        nobody when there is none.
        """
        woken: list[PoolThread] = []
        self.in_hand = 0
        with self.lock:
            for connection in others:
                follower = self.idle.pop()
                follower.task = connection
                woken.append(follower)
            if self.idle:
                follower = self.idle.pop()
                follower.task = Order.LEAD
                woken.append(follower)
                self.leader = follower
            else:
                self.leader = None
                self._saturate(now)
        for follower in woken:
            follower.wake.release()

    def promote(self, now: float) -> bool:
        """Give the lead to a follower when the leader has been away too long.  The watchdog."""
        with self.lock:
            since = self.inline_since
            if not since or now - since < PATIENCE_S:
                return False
            self.inline_since = 0.0
            if not self.idle:
                self.leader = None
                return False
            follower = self.idle.pop()
            follower.task = Order.LEAD
            self.leader = follower
        follower.wake.release()
        return True

    def enlist(self, thread: PoolThread) -> bool:
        """Make ``thread`` the leader when nobody leads (True), else a follower."""
        with self.lock:
            return self._take_or_park(thread)

    def settle(
        self, thread: PoolThread, connection: Connection, state: State | None, now: float
    ) -> Turn:
        """End ``connection``'s turn in ``thread`` and say what the thread does next.

        ``state`` is where the connection goes; ACTIVE means that its next, pipelined
        request is there already, None that it is seen to: closed or lingering.  Ends a
        saturated stretch, since a thread is free again.
        """
        with self.lock:
            if self.leader is thread:
                self.inline_since = 0.0
            self.requests_left -= 1
            if not self.requests_left:
                self.limit_reached = True
                self.rouse_watchdog()
            if state is ACTIVE:
                if self.leader is not None and self.leader is not thread:
                    # Somebody polls, so nobody waits for this thread.
                    return AGAIN
                self.ready.append(connection)
            elif state is not None:
                connection.move(state)
                if state is WRITING or not connection.polled:
                    self._watch(connection)
            if self.saturated:
                self.saturated = False
                self._slot.end_saturated(now)
            if self.leader is thread or self._take_or_park(thread):
                return LEAD
            if self.paused:
                # The leader may wait for just this thread, or this connection's place.
                self.poke()
            return PARK

    def _take_or_park(self, thread: PoolThread) -> bool:
        if self.leader is None:
            self.leader = thread
        if self.leader is thread:
            return True
        if self.stopped.is_set():
            # `stop` has gone round already, so nobody is left to wake it.
            thread.task = Order.STOP
            thread.wake.release()
        else:
            self.idle.append(thread)
        return False

    def _saturate(self, now: float) -> None:
        self.saturated = True
        self._slot.begin_saturated(now)

    # -- connections ------------------------------------------------------------------

    def _watch(self, connection: Connection) -> None:
        """Have the poller report ``connection`` for what its state waits for."""
        if connection.state is WRITING:
            self.poller.add(connection.fd, WRITE)
            connection.polled = True
        elif not connection.polled:
            self.poller.add(connection.fd, READ)
            connection.polled = True

    def watch(self, connection: Connection, deadline: float) -> None:
        """Wait for ``connection`` in the poller until ``deadline``.  The leader."""
        self.expect(connection, deadline)
        with self.lock:
            self._watch(connection)

    def rewatch(self, connection: Connection) -> None:
        """Go from waiting to write to waiting to read.  The leader."""
        with self.lock:
            self.poller.add(connection.fd, READ)
            connection.polled = True

    def send_on(self, connection: Connection, deadline: float) -> None:
        """Wait until the client takes more of our last word.  Its owner."""
        self.expect(connection, deadline)
        with self.lock:
            if connection.state is not WRITING:
                connection.move(WRITING)
            self._watch(connection)

    def linger(self, connection: Connection, deadline: float) -> None:
        """Wait for the client's end of a connection that is shut on our side.  Its owner."""
        self.expect(connection, deadline)
        with self.lock:
            if connection.state is not LINGERING:
                connection.move(LINGERING)
            self.poller.add(connection.fd, WRITE if connection.wire.unsent else READ)
            connection.polled = True

    def shake(self, connection: Connection) -> None:
        """Wait for what a TLS handshake needs: room for our part, or the client's.  The leader."""
        with self.lock:
            self.poller.add(connection.fd, WRITE if connection.wire.unsent else READ)
            connection.polled = True

    def expect(self, connection: Connection, deadline: float) -> None:
        """Set ``connection``'s deadline (monotonic).  Its owner, without the lock."""
        connection.deadline = deadline
        # Seldom true, as deadlines grow: the lock is for two threads that both lower it.
        if deadline < self.earliest:
            with self.lock:
                self.earliest = min(self.earliest, deadline)

    def forget(self, connection: Connection) -> None:
        """Let go of a connection whose socket is about to be closed.  Its owner.

        Before the close: afterwards the descriptor's number may be another connection's.
        """
        with self.lock:
            self.connections.pop(connection.fd, None)
            connection.move(CLOSED)
            if connection.polled:
                self.poller.remove(connection.fd)
                connection.polled = False

    def unwatch_active(self, connection: Connection) -> bool:
        """Stop reporting a connection that a thread has; False when it is back already.

        Bytes that a client sends while its request runs would be reported again and
        again.  The thread adds it again in `settle`.
        """
        with self.lock:
            if connection.state is not ACTIVE:
                return False
            self.poller.remove(connection.fd)
            connection.polled = False
            return True

    def stop(self) -> None:
        """Send every parked thread home; the others follow as they come back."""
        with self.lock:
            self.stopped.set()
            parked, self.idle = self.idle, []
            for thread in parked:
                thread.task = Order.STOP
        for thread in parked:
            thread.wake.release()
        self.rouse_watchdog()

    def close(self) -> None:
        """Give back the pool's own descriptors, after its threads have ended."""
        self.poller.close()
        for fd in (self._poke_read, self._poke_write, self._watch_read, self._watch_write):
            os.close(fd)


def _ring(fd: int) -> None:
    try:
        os.write(fd, b"!")
    except BlockingIOError:
        # Full: it rings already.
        return


def _hush(fd: int) -> None:
    try:
        os.read(fd, 4096)
    except BlockingIOError:
        return
