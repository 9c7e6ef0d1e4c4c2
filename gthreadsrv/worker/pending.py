"""A response that has not left whole: what is kept of it until it has.

Made by the thread that ran the application; read by the one that sends the last byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gthreadsrv.http.request import RequestHead
    from gthreadsrv.wsgi.exchange import Exchange

__all__ = ["Pending"]


@dataclass(slots=True)
class Pending:
    """What is known of it, for its count and log line. Seconds below 0 are not known."""

    head: RequestHead
    exchange: Exchange
    started: float
    app_s: float
    queue_s: float
    kernel: bool
    body_in: int
    environ: dict[str, Any]
    wall_s: float
    request_id: str = ""
    trace_id: str = ""
    exemplar: str = ""
    """The trace id again, where the trace is sampled."""
