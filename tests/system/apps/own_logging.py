"""An application that configures the standard library's logging itself."""

from __future__ import annotations

import logging.config
from collections.abc import Callable, Iterable
from typing import Any

logging.config.dictConfig(
    {
        "version": 1,
        "formatters": {"own": {"format": "OWN %(name)s %(message)s"}},
        "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
        "root": {"handlers": ["own"], "level": "WARNING"},
    }
)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Log one warning."""
    logging.getLogger("shop").warning("plain warning")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"logged\n"]
