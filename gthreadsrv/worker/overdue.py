"""Requests past their time: reported, interrupted, and at last a reason to be replaced.

A request is overdue when it has been with the application for `--timeout` and nothing of its
response has left in that time.  Three steps, each counted:

* logged, with the request line and the stack of its thread;
* interrupted: `RequestTimeoutError` is raised in the thread.  That reaches it when it next
  runs Python code: a thread that waits in C (a lock, a database driver) keeps waiting.  Counted
  once the request has ended and the exception was raised, even where the application caught it.
  An iterable's close() is not interrupted: it is what cleans up after an interruption;
* still there after `INTERRUPT_GRACE_S`: the master is asked for a replacement.  The new worker
  serves before this one is told to leave, and this one's other requests finish.

Runs on the watchdog, with the heartbeat.  A worker whose interpreter stands still is the
master's to see: its heartbeat grows old.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gthreadsrv.worker import wire
from gthreadsrv.worker.channel import RetireRequested

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from structlog.typing import FilteringBoundLogger

    from gthreadsrv.worker.channel import WorkerChannel
    from gthreadsrv.worker.service import Service
    from gthreadsrv.worker.thread import PoolThread

__all__ = ["INTERRUPT_GRACE_S", "Overdue"]

INTERRUPT_GRACE_S: Final = 2.0
"""From the interruption to the call for a replacement: time for `finally` blocks."""


@dataclass(slots=True)
class _Sight:
    """What was last seen of a thread's request."""

    since: float
    """When the thread took it on: no two requests of a thread share that instant."""
    sent: int
    moved_at: float
    """When it was taken on, or last seen to have sent more or to wait for its client."""
    logged_at: float = 0.0
    replaced: bool = False


class Overdue:
    """Looks at the requests that run in a worker."""

    def __init__(
        self,
        threads: Sequence[PoolThread],
        timeout_s: float,
        channel: WorkerChannel,
        log: FilteringBoundLogger,
    ) -> None:
        """``timeout_s`` 0 is never."""
        self._threads = threads
        self._timeout_s = timeout_s
        self._channel = channel
        self._log = log
        self._sights: dict[PoolThread, _Sight] = {}
        self._asked = False

    def look(self, now: float) -> None:
        """Do what is due at ``now`` (monotonic)."""
        if not self._timeout_s:
            return
        for thread in self._threads:
            self._look_at(thread, thread.service, now)

    def _look_at(self, thread: PoolThread, service: Service, now: float) -> None:
        interruption = service.interruption
        while interruption.landed > interruption.counted:
            interruption.counted += 1
            service.row.count_timeout("interrupted")
        since = service.row.since
        exchange = service.exchange
        if not since or exchange is None:
            return
        sight = self._sights.get(thread)
        if sight is None or sight.since != since:
            sent = exchange.sent
            # Looks may be further apart than the timeout is long.
            sight = self._sights[thread] = _Sight(since, sent, now if sent else since)
        elif sight.sent != exchange.sent:
            # A stream goes on for as long as its client listens.
            self._sights[thread] = _Sight(since, exchange.sent, now)
            return
        elif exchange.started and _waits_for_client(thread.frame()):
            # That is the write timeout's business, and no time of the application's.
            sight.moved_at = now
            return
        if now - sight.moved_at <= self._timeout_s:
            return
        if not sight.logged_at:
            frame = thread.frame()
            if frame is None or _waits_for_client(frame):
                return
            sight.logged_at = now
            self._report(thread, service, frame, now - since)
            thread.interrupt(since)
        elif now - sight.logged_at > INTERRUPT_GRACE_S and not sight.replaced:
            sight.replaced = True
            service.row.count_timeout("worker_replaced")
            if not self._asked:
                self._asked = True
                self._channel.send(RetireRequested("request_timeout"))

    def _report(self, thread: PoolThread, service: Service, frame: FrameType, age_s: float) -> None:
        service.row.count_timeout("logged")
        head = service.exchange.head if service.exchange is not None else None
        self._log.error(
            "request past its timeout",
            method=head.method if head else "",
            target=head.target if head else "",
            seconds=round(age_s, 3),
            timeout=self._timeout_s,
            thread=thread.name,
            stack="".join(traceback.format_stack(frame)).rstrip("\n"),
        )


def _waits_for_client(frame: FrameType | None) -> bool:
    # The wire waits by way of the poller, and never calls the application.
    while frame is not None:
        if frame.f_code.co_filename == wire.__file__:
            return True
        frame = frame.f_back
    return False
