"""An application that remembers as whom it was imported."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

IMPORTED_AS = f"{os.getuid()} {os.getgid()}"


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with what was remembered."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [IMPORTED_AS.encode()]
