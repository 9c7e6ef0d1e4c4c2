"""An application that logs by structlog, set up as structlog's own documentation shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import structlog

structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.JSONRenderer(),
    ]
)
log = structlog.get_logger()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Log one line."""
    log.info("order placed", order=parse_qs(environ["QUERY_STRING"])["order"][0])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"logged\n"]
