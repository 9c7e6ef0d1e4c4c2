"""An application that reads its configuration from the environment when it is imported."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

VALUE = os.environ["VARIABLE"]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with what was read."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [VALUE.encode()]
