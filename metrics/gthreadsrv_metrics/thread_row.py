"""One pool thread's row of the scoreboard: what the request path writes.

Runs in a worker, on the thread that owns the row and on no other. begin() and finish()
together cost about a microsecond of a 14 microsecond request, so: no lock, no system call,
no clock, no allocation that can be avoided, and nothing that could fail on odd input.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from gthreadsrv_metrics import labels
from gthreadsrv_metrics.labels import DURATION_BOUNDS, QUEUE_BOUNDS
from gthreadsrv_metrics.layout import (
    BLOCK_CELLS,
    CELL_BYTES,
    EXEMPLAR_CELLS,
    MAX_BLOCKS,
    PAIR_BLOCKS,
    T_ACCEPTED,
    T_APPLICATION,
    T_BLOCKS,
    T_BODY_IN,
    T_BODY_OUT,
    T_BUSY,
    T_CLOSED,
    T_ERRORS,
    T_EXEMPLAR,
    T_EXEMPLARS,
    T_NATIVE_ID,
    T_QUEUE_KERNEL,
    T_QUEUE_PROXY,
    T_QUEUE_USER,
    T_REQUESTS,
    T_SEQUENCE,
    T_SINCE,
    T_TIMEOUTS,
    TRACE_BYTES,
    X_AT,
    X_CLASS,
    X_DURATION,
    X_TRACE,
)

if TYPE_CHECKING:
    from gthreadsrv_metrics.layout import Cells

__all__ = ["ThreadRow", "request_key"]

_METHOD_INDEX: Final = {method: index for index, method in enumerate(labels.METHODS)}
_OTHER_METHOD: Final = len(labels.METHODS) - 1
_CLOSED: Final = {reason: T_CLOSED + i for i, reason in enumerate(labels.CLOSE_REASONS)}
_ERRORS: Final = {reason: T_ERRORS + i for i, reason in enumerate(labels.ERROR_REASONS)}
_TIMEOUTS: Final = {action: T_TIMEOUTS + i for i, action in enumerate(labels.TIMEOUT_ACTIONS)}
# Where the first bucket is: after a block's key and sum, and after a histogram's sum.
_BLOCK_FIRST: Final = 2
_APPLICATION_FIRST: Final = T_APPLICATION + 1
_KERNEL_FIRST: Final = T_QUEUE_KERNEL + 1
_USER_FIRST: Final = T_QUEUE_USER + 1
# The n-th bucket holds what is above the n-th of the one and not above the n-th of the other.
_ABOVE: Final = (-math.inf, *DURATION_BOUNDS)
_UP_TO: Final = (*DURATION_BOUNDS, math.inf)


def request_key(method: str, status: int) -> int:
    """Return the key of the block that counts this pair; below 100 the code is a class."""
    code = status if 100 <= status <= 599 else len(labels.CODE_CLASSES)
    return 1000 * _METHOD_INDEX.get(method, _OTHER_METHOD) + code + 1


def code_class_of(key: int) -> int:
    """Return the index into CODE_CLASSES of a block's key."""
    code = (key - 1) % 1000
    return (code // 100 if code >= 100 else code) - 1


class ThreadRow:
    """The writer of one thread row. Counters go on from what an earlier lease left there."""

    __slots__ = (
        "_app_s", "_blocks", "_body_out", "_bytes", "_cells", "_sequence", "_since", "_total",
    )  # fmt: skip

    def __init__(self, cells: Cells) -> None:
        """Take over a row: ``cells`` is its part of the board, as doubles."""
        self._cells = cells
        self._bytes = cells.cast("B")
        self._sequence: float = cells[T_SEQUENCE]
        self._total: float = cells[T_BUSY]
        # Every request adds to these. Only this thread writes their cells, and an attribute
        # is read in a third of the time.
        self._app_s: float = cells[T_APPLICATION]
        self._body_out: float = cells[T_BODY_OUT]
        self._since = 0.0
        # method -> code -> first bucket of the pair's block: two plain lookups cost half of
        # making and hashing a pair. Only known methods get in (see _block), so the table is
        # bounded whatever clients send.
        self._blocks: dict[str, dict[int, int]] = {}

    def attach(self, native_id: int) -> None:
        """Say which kernel thread serves this row, for its CPU time."""
        self._cells[T_NATIVE_ID] = native_id

    @property
    def since(self) -> float:
        """When the thread became busy, in CLOCK_MONOTONIC seconds; 0 when it is free."""
        return self._since

    def begin(self, now: float) -> None:
        """The thread is busy from ``now``, in CLOCK_MONOTONIC seconds."""
        cells = self._cells
        self._since = now
        cells[T_SINCE] = now
        cells[T_BUSY] = self._total - now

    def abandon(self, now: float) -> None:
        """The thread is free again without a finished response.

        Also right when the rest of a response goes on in the poller: whoever writes its
        last byte calls finish(), which leaves the busy time of an idle row alone.
        """
        if self._since:
            self._total += now - self._since
            self._since = 0.0
            self._cells[T_BUSY] = self._total

    def finish(
        self,
        now: float,
        method: str,
        status: int,
        started: float,
        app_s: float,
        queue_s: float,
        kernel: bool,
        body_in: int,
        body_out: int,
        trace_id: str = "",
    ) -> None:
        """Count one response whose last byte has been handed to the kernel.

        ``started`` is when its first byte was read, ``queue_s`` below 0 is unknown,
        ``app_s`` below 0 says that the application was not asked, and
        ``trace_id`` is 32 hex digits, or empty.
        """
        try:
            first = self._blocks[method][status]
        except KeyError:
            first = self._block(method, status)
        # Everything that calls comes first: CPython changes threads and delivers
        # asynchronous exceptions at calls and loops, so none of that can happen between the
        # two sequence stores and only a preempted or killed process leaves the row odd.
        duration_s = now - started
        bucket = first
        app_bucket = _APPLICATION_FIRST
        if duration_s > 0.001:
            step = bisect_left(DURATION_BOUNDS, duration_s)
            bucket += step
            # Most of the time is the application's, and a look is cheaper than a search.
            if _ABOVE[step] < app_s <= _UP_TO[step]:
                app_bucket += step
            else:
                app_bucket += bisect_left(DURATION_BOUNDS, app_s)
        elif app_s > 0.001:
            app_bucket += bisect_left(DURATION_BOUNDS, app_s)
        if kernel:
            queue = T_QUEUE_KERNEL
            queue_bucket = _KERNEL_FIRST
        else:
            queue = T_QUEUE_USER
            queue_bucket = _USER_FIRST
        if queue_s > 0.0005:
            queue_bucket += bisect_left(QUEUE_BOUNDS, queue_s)
        total = self._total
        since = self._since
        if since:
            self._since = 0.0
            self._total = total = total + (now - since)
        self._sequence = sequence = self._sequence + 2.0
        cells = self._cells
        # A process may be killed between any two stores. The first is the count itself (of
        # requests_total and the histogram in one), so what follows, sums and bytes, can
        # lag by this request but never lead. Busy time is last: a row still running is
        # closed by the master when it reaps the process.
        cells[T_SEQUENCE] = sequence - 1.0
        cells[bucket] += 1.0
        cells[first - 1] += duration_s
        if app_s >= 0.0:
            cells[app_bucket] += 1.0
            self._app_s = cells[T_APPLICATION] = self._app_s + app_s
        if queue_s >= 0.0:
            cells[queue_bucket] += 1.0
            cells[queue] += queue_s
        if body_in:
            cells[T_BODY_IN] += body_in
        if body_out:
            self._body_out = cells[T_BODY_OUT] = self._body_out + body_out
        cells[T_BUSY] = total
        cells[T_SEQUENCE] = sequence
        if trace_id:
            self._exemplar(now, first, bucket, duration_s, trace_id)

    def count_accept(self) -> None:
        """A connection was accepted."""
        self._cells[T_ACCEPTED] += 1.0

    def count_close(self, reason: str) -> None:
        """A connection was closed, for one of CLOSE_REASONS."""
        self._cells[_CLOSED[reason]] += 1.0

    def count_error(self, reason: str) -> None:
        """A request went wrong, for one of ERROR_REASONS."""
        self._cells[_ERRORS[reason]] += 1.0

    def count_timeout(self, action: str) -> None:
        """Something was done about a request past its timeout, one of TIMEOUT_ACTIONS.

        The one cell group the watchdog writes, and alone: the thread itself is stuck.
        """
        self._cells[_TIMEOUTS[action]] += 1.0

    def proxy_queue(self, seconds: float) -> None:
        """A trusted proxy said how long ago it received this request."""
        bucket = T_QUEUE_PROXY + 1 + bisect_left(QUEUE_BOUNDS, seconds)
        self._cells[bucket] += 1.0
        self._cells[T_QUEUE_PROXY] += max(seconds, 0.0)

    def _block(self, method: str, status: int) -> int:
        """Find the pair's block, claiming the next free one on its first use in this row.

        Returns the first bucket of its histogram.
        """
        cells = self._cells
        key = request_key(method, status)
        claimed = int(cells[T_BLOCKS])
        number = next(
            (n for n in range(claimed) if cells[T_REQUESTS + n * BLOCK_CELLS] == key), claimed
        )
        if number == claimed:
            code_class = code_class_of(key)
            if claimed >= PAIR_BLOCKS:
                # Full: the rest is counted per class, with method "other". The reader
                # needs all of these blocks from here on.
                number = PAIR_BLOCKS + code_class
                key = 1000 * _OTHER_METHOD + (code_class + 1) + 1
                cells[T_REQUESTS + number * BLOCK_CELLS] = key
                cells[T_BLOCKS] = MAX_BLOCKS
            else:
                cells[T_REQUESTS + number * BLOCK_CELLS] = key
                cells[T_BLOCKS] = claimed + 1
        first = T_REQUESTS + number * BLOCK_CELLS + _BLOCK_FIRST
        if method in _METHOD_INDEX and 100 <= status <= 599:
            self._blocks.setdefault(method, {})[status] = first
        return first

    def _exemplar(
        self, now: float, first: int, bucket: int, duration_s: float, trace_id: str
    ) -> None:
        """Keep the trace of the last sampled request in this bucket."""
        trace = trace_id.encode("ascii", "replace")
        if len(trace) != TRACE_BYTES:
            return
        cells = self._cells
        start = T_EXEMPLAR + (bucket - first) * EXEMPLAR_CELLS
        first_byte = (start + X_TRACE) * CELL_BYTES
        code_class = code_class_of(int(cells[first - _BLOCK_FIRST]))
        # Without an instant it is no exemplar: a reader never pairs an old trace with a
        # new duration.
        cells[start + X_AT] = 0.0
        self._bytes[first_byte : first_byte + TRACE_BYTES] = trace
        cells[start + X_CLASS] = code_class
        cells[start + X_DURATION] = duration_s
        cells[start + X_AT] = now
        cells[T_EXEMPLARS] = 1.0
