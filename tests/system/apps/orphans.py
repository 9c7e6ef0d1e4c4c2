"""An application that leaves a grandchild to process 1, and tells the size of what it was sent."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The shell is gone before what it has started is."""
    subprocess.run(["sh", "-c", "sleep 0.1 &"], check=True)
    size = str(len(environ["wsgi.input"].read())).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(size)))])
    return [size]
