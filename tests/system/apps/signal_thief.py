"""An application whose import takes signals for itself, in the way that VARIABLE names."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from typing import Any

match os.environ["VARIABLE"]:
    case "handler":
        signal.signal(signal.SIGTERM, lambda *_: None)
    case "wakeup":
        signal.set_wakeup_fd(-1)
    case "mask":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGABRT})
    case "children":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"mine\n"]
