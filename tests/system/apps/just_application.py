"""A module with `application`, which wins over `app`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

app = None


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Say who answered."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"application of a module"]
