"""Start a server that is a library: launch.py NAME MODULE:APP PORT THREADS CONNECTIONS.

Runs as a program of its own, with the server's packages and the application on its path.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

HOST = "127.0.0.1"
BACKLOG = 2048


def main() -> None:
    """Serve until a signal."""
    name, target, port, threads, connections = sys.argv[1:]
    module, _, attribute = target.partition(":")
    app: Any = getattr(importlib.import_module(module), attribute)
    if name == "bjoern":
        importlib.import_module("bjoern").run(app, HOST, int(port), listen_backlog=BACKLOG)
    else:
        server: Any = importlib.import_module("cheroot.wsgi").Server(
            (HOST, int(port)), app, numthreads=int(threads), max=int(threads),
            timeout=75, request_queue_size=BACKLOG,
        )  # fmt: skip
        server.keep_alive_conn_limit = int(connections)
        server.safe_start()


if __name__ == "__main__":
    main()
