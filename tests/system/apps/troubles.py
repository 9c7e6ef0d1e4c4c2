"""An application for each kind of trouble that an alert tells of.

Its import waits while the file named by GATE is there (at most 60 s).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from prometheus_client import Counter

counted = Counter("troubles_counted", "Counted in children.")
kept: list[bytes] = []
BLOCK = bytes(4 << 20)

gate_deadline = time.monotonic() + 60
while os.path.exists(os.environ.get("GATE", "")) and time.monotonic() < gate_deadline:
    time.sleep(0.02)


def compute(seconds: float) -> None:
    """Use this much CPU of this thread, with the interpreter."""
    deadline = time.thread_time() + seconds
    while time.thread_time() < deadline:
        sum(range(500))


def digest(seconds: float) -> None:
    """Use this much CPU of this thread, most of it without the interpreter."""
    deadline = time.thread_time() + seconds
    while time.thread_time() < deadline:
        hashlib.sha256(BLOCK)


def wait(seconds: float) -> None:
    """Look again and again, as for a lock in a database."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.02)


def keep(megabytes: float) -> None:
    """Take memory and keep it."""
    kept.append(b"x" * int(megabytes * 1024 * 1024))


def count_in_child() -> None:
    """Fork a child that counts, and wait for it."""
    child = os.fork()
    if not child:
        counted.inc()
        os._exit(0)
    os.waitpid(child, 0)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Do what the path says, as much of it as `n` says; answer with the process."""
    path = environ["PATH_INFO"]
    amount = float(parse_qs(environ["QUERY_STRING"]).get("n", ["0"])[0])
    if path == "/sleep":
        time.sleep(amount)
    elif path == "/wait":
        wait(amount)
    elif path == "/compute":
        compute(amount)
    elif path == "/digest":
        digest(amount)
    elif path == "/keep":
        keep(amount)
    elif path == "/child":
        count_in_child()
    elif path == "/fail":
        raise RuntimeError("failed on purpose")
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
