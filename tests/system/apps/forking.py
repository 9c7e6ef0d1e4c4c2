"""An application that starts a child of its own and waits for it, as subprocess users do."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Run a program and tell its pid."""
    with subprocess.Popen(["true"]) as child:
        code = child.wait()
    status = "200 OK" if code == 0 else "500 Internal Server Error"
    start_response(status, [("Content-Type", "text/plain")])
    return [str(child.pid).encode()]
