"""A Flask application with what Flask applications have: forms, sessions, JSON, files, streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, jsonify, request, send_file, session, stream_with_context

app = Flask(__name__)
app.secret_key = "only for tests"


@app.get("/")
def index() -> str:
    """Greet by query."""
    return f"Hello, {request.args.get('name', 'world')}!"


@app.post("/form")
def form() -> Any:
    """Show the form as Flask reads it."""
    return jsonify(
        fields=request.form.to_dict(flat=False),
        files={name: len(file.read()) for name, file in request.files.items()},
    )


@app.post("/json")
def as_json() -> Any:
    """Send the JSON back."""
    return jsonify(request.get_json())


@app.post("/raw")
def raw() -> Any:
    """Count the body's bytes, read as a stream."""
    size = 0
    while piece := request.stream.read(8192):
        size += len(piece)
    return jsonify(size=size, length=request.content_length)


@app.get("/count")
def count() -> Any:
    """Count this browser's visits in its session."""
    session["visits"] = session.get("visits", 0) + 1
    return jsonify(visits=session["visits"])


@app.get("/stream")
def stream() -> Response:
    """A stream that uses the request while it runs."""

    def lines() -> Iterator[str]:
        for number in range(5):
            yield f"{request.args['word']} {number}\n"

    return Response(stream_with_context(lines()), mimetype="text/plain")


@app.get("/source")
def source() -> Response:
    """A file, with ranges and validators."""
    return send_file(Path(__file__), mimetype="text/x-python", conditional=True)


@app.get("/teapot")
def teapot() -> Any:
    """An error page of Flask's."""
    abort(418)


@app.get("/broken")
def broken() -> Any:
    """Fail as views do."""
    raise ValueError("broken view")
