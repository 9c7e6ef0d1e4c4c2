"""Which trace a request belongs to, told by the application's tracer.

A request that comes with a `traceparent` field has told it already. Without one the tracer
makes the trace, inside the application, and the server cannot know it: unless it is told here.
Then the access log's line, the exemplar of the request's bucket and the application's structlog
lines carry the tracer's own id. `gthreadsrv.otel` does the telling for OpenTelemetry.

Called in the thread that serves the request. Nothing here costs a request that says nothing.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from gthreadsrv.log.context import bind_traceparent as bind_to_log
from gthreadsrv.log.context import is_sampled, parse_traceparent

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["bind_traceparent", "listen_here", "renew"]

_thread = threading.local()


def bind_traceparent(traceparent: str) -> bool:
    """Say which trace the request that this thread serves belongs to.

    ``traceparent`` is W3C's text: ``00-<32 hex digits>-<16 hex digits>-<2 hex digits>``, the
    trace, the span that serves the request, and flags. The last call of a request counts, and
    counts more than the field it came with. Only a sampled trace (flag 01) becomes an exemplar.
    Returns whether the thread serves a request of gthreadsrv's; elsewhere nothing is done, so
    the same code runs under any server. Raises ValueError where it is no traceparent.
    """
    trace_id = parse_traceparent(traceparent)
    if not trace_id:
        raise ValueError(f"{traceparent!r} is no traceparent: see W3C Trace Context")
    note: Callable[[str, bool], bool] | None = getattr(_thread, "note", None)
    if note is None or not note(trace_id, is_sampled(traceparent)):
        return False
    bind_to_log(traceparent)
    return True


def listen_here(note: Callable[[str, bool], bool]) -> None:
    """Be told of trace id and sampling of the requests that the calling thread serves.

    ``note`` returns whether there is a request. The worker, once in each of its threads.
    """
    _thread.note = note


def renew() -> None:
    """Make it each greenlet's own: what `threading.local` is was replaced a moment ago."""
    global _thread  # noqa: PLW0603
    _thread = threading.local()
