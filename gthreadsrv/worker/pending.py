"""A response that has not left whole: what its count and its log line will need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gthreadsrv.http.request import RequestHead
    from gthreadsrv.wsgi.exchange import Exchange

__all__ = ["Pending"]


@dataclass(slots=True)
class Pending:
    """Kept from the end of the application until the kernel has the last byte."""

    head: RequestHead
    exchange: Exchange
    started: float
    app_s: float
    queue_s: float
    kernel: bool
    body_in: int
    environ: dict[str, Any]
    wall_s: float
    request_id: str
    trace_id: str
