"""A Bottle application: its default one, with routes by decorators."""

from __future__ import annotations

from typing import Any

import bottle


@bottle.get("/hello/<name>")  # type: ignore[misc]
def hello(name: str) -> str:
    """Greet by name."""
    return f"Hello, {name}!"


@bottle.post("/upload")  # type: ignore[misc]
def upload() -> dict[str, Any]:
    """Tell an uploaded file's size."""
    return {"size": len(bottle.request.files["file"].file.read())}


app = bottle.default_app()
