"""An ASGI application, served as WSGI by a2wsgi."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any
from urllib.parse import parse_qs

from a2wsgi import ASGIMiddleware


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Serve `/stream`, whose second piece waits for a file, and tell the size of other bodies."""
    head = {"type": "http.response.start", "status": 200, "headers": [(b"x-asgi", b"yes")]}
    if scope["path"] == "/stream":
        [until] = parse_qs(scope["query_string"].decode())["until"]
        await send(head)
        await send({"type": "http.response.body", "body": b"first\n", "more_body": True})
        while not os.path.exists(until):
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"second\n"})
        return
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = json.dumps({"path": scope["path"], "method": scope["method"], "size": size})
    await send(head)
    await send({"type": "http.response.body", "body": body.encode()})


app = ASGIMiddleware(asgi)
