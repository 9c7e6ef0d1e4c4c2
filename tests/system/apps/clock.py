"""An application that says when it ran: the truth that metrics are held to.

/sleep?s=SECONDS sleeps, /hold?s=SECONDS sleeps in C without letting go of the interpreter; each
answers with the instants at which it was entered and left, on both clocks.
"""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

# PyDLL, unlike CDLL, keeps the interpreter's lock during the call.
_sleep = ctypes.PyDLL(None).sleep


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the times of this call."""
    times = {"entered": time.monotonic(), "entered_wall": time.time()}
    seconds = float(parse_qs(environ["QUERY_STRING"]).get("s", ["0"])[0])
    if environ["PATH_INFO"] == "/hold":
        _sleep(int(seconds))
    elif seconds:
        time.sleep(seconds)
    times["left"] = time.monotonic()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(times).encode()]
