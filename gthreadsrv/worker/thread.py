"""One thread of the pool: it leads, serves, or is parked.

The whole way of a request can be read here: `_lead` takes what the intake has read, runs
it or hands it on, `_serve` runs it through the application and settles the connection.
"""

from __future__ import annotations

import os
import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING

from gthreadsrv.worker.pool import AGAIN, LEAD, Order

if TYPE_CHECKING:
    from types import FrameType

    from gthreadsrv.worker.connection import Connection
    from gthreadsrv.worker.intake import Intake
    from gthreadsrv.worker.pool import Pool
    from gthreadsrv.worker.service import Service

__all__ = ["EXIT_BUG", "PoolThread"]

EXIT_BUG = 70
"""Exit status after a fault of ours (sysexits.h: EX_SOFTWARE)."""


class PoolThread:
    """A thread with its own parser, its own scoreboard row, and a place to be parked."""

    __slots__ = ("_intake", "_pool", "_thread", "name", "service", "task", "wake")

    def __init__(self, name: str, pool: Pool, intake: Intake, service: Service) -> None:
        self._pool = pool
        self._intake = intake
        self.name = name
        self.service = service
        """What serves on this thread."""
        self.task: Connection | Order | None = None
        """What to do after `wake`; written by whoever takes the thread off the idle list."""
        self.wake = threading.Lock()
        self.wake.acquire()
        # Daemon: a stuck application must not keep a process from leaving.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; the first of a pool becomes its leader."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread's end; False when it is still running."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def ident(self) -> int | None:
        """The interpreter's id of the thread."""
        return self._thread.ident

    def frame(self) -> FrameType | None:
        """Return what the thread is at; None when it does not run."""
        return sys._current_frames().get(self.ident or 0)  # noqa: SLF001 - the only way

    def interrupt(self, since: float) -> None:
        """Raise `RequestTimeoutError` in the request that began at ``since``.  The watchdog."""
        self.service.interruption.send(self.ident or 0, since)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - our own bug: nothing may pass unseen
            # A pool that lost a thread in an unknown state may have no leader any more;
            # the master replaces a worker that ends.
            self.service.log_bug(error)
            os._exit(EXIT_BUG)

    def _work(self) -> None:
        self.service.enter_thread()
        leads = self._pool.enlist(self)
        while True:
            if leads:
                if self._lead():
                    return
                leads = False
                continue
            self.wake.acquire()
            task, self.task = self.task, None
            if task is Order.STOP:
                return
            if task is Order.LEAD:
                leads = True
            elif task is not None:
                leads = self._serve(task, monotonic())

    def _lead(self) -> bool:
        """Poll, read and serve until the lead has gone (False) or the pool ends (True)."""
        pool = self._pool
        intake = self._intake
        while True:
            connection = intake.next()
            if connection is None:
                return True
            if pool.pace_s < pool.fast_s:
                now = monotonic()
                pool.go_inline(now)
            else:
                others: list[Connection] = []
                pool.in_hand = 1
                while pool.free_threads() > 0:
                    other = intake.next_now()
                    if other is None:
                        break
                    others.append(other)
                    pool.in_hand += 1
                now = monotonic()
                pool.hand_on(others, now)
            if not self._serve(connection, now):
                return False

    def _serve(self, connection: Connection, now: float) -> bool:
        """Serve ``connection``'s request, and those right behind it; True to lead next."""
        while True:
            state, now = self.service.run(connection, self._intake, now)
            turn = self._pool.settle(self, connection, state, now)
            if turn is not AGAIN:
                return turn is LEAD
            self._let_others_run()

    def _let_others_run(self) -> None:
        """Between two requests of one client.  Threads take turns by themselves."""
