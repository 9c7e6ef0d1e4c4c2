"""An application whose requests get stuck in Python, in C, or are only slow to tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def _drip(seconds: float) -> Iterator[bytes]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield b"."
        time.sleep(0.1)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Do what the path says."""
    path = environ["PATH_INFO"]
    if path == "/spin":
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # as careless loops do
                continue
    if path == "/swallow":
        try:
            while True:
                time.sleep(0.01)
        except BaseException:  # noqa: BLE001 - as the most careless do
            pass
    if path == "/asleep":
        time.sleep(3600)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/drip":
        return _drip(float(environ["QUERY_STRING"]))
    return [b"well\n"]
