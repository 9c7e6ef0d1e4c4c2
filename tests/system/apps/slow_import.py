"""An application whose import takes until the file named by VARIABLE is there (at most 20 s)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

deadline = time.monotonic() + 20
while not os.path.exists(os.environ["VARIABLE"]) and time.monotonic() < deadline:
    time.sleep(0.01)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"at last\n"]
