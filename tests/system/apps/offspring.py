"""An application that forks in the middle of a request, each route with another sort of child."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

LIFE_S = 20.0


def _live() -> None:
    """Be a child that ends by itself, should nobody end it before."""
    time.sleep(LIFE_S)
    os._exit(0)


def _end_of(pid: int) -> str:
    """How the child ended; one that has not within a few seconds is killed."""
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return f"code {os.waitstatus_to_exitcode(status)}"
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "lives on"


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Fork as the path says, and tell what became of the child, or its pid."""
    path = environ["PATH_INFO"]
    text = str(os.getpid())
    if path == "/terminate":
        child = os.fork()
        if not child:
            _live()
        os.kill(child, signal.SIGTERM)
        text = _end_of(child)
    elif path in ("/leave", "/raise", "/return"):
        child = os.fork()
        if child:
            text = _end_of(child)
        elif path == "/leave":
            raise SystemExit(7)
        elif path == "/raise":
            raise RuntimeError("the child fails")
        else:
            text = "from the child"
    elif path == "/keep":
        child = os.fork()
        if not child:
            _live()
        text = str(child)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter([text.encode()])
