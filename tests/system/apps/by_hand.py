"""An application that tells its traces by hand, with no tracer at all: the path is the traceparent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from gthreadsrv.tracing import bind_traceparent

log = structlog.wrap_logger(
    structlog.PrintLogger(sys.stdout),
    processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    try:
        body = str(bind_traceparent(environ["PATH_INFO"][1:]))
    except ValueError as error:
        body = str(error)
    log.info("worked")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
