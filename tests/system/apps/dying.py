"""An application that takes its process with it when it is imported; once it boots, soon after."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

# After the worker has become ready: a boot that fails would end the server, as it should.
threading.Timer(0.2, os._exit, (9,)).start()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer, while it lasts."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"still here\n"]
