"""A module with `app`, served by the module's name alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Say who answered."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"app of a module"]
