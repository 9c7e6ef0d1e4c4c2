"""A Pyramid application, by a factory as its own scaffolds have it."""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response


def hello(request: Request) -> Response:
    """Greet by name."""
    return Response(f"Hello, {request.matchdict['name']}!")


def upload(request: Request) -> dict[str, Any]:
    """Tell an uploaded file's size."""
    return {"size": len(request.POST["file"].file.read())}


def main() -> Any:
    """Make the WSGI application."""
    with Configurator() as config:
        config.add_route("hello", "/hello/{name}")
        config.add_view(hello, route_name="hello")
        config.add_route("upload", "/upload")
        config.add_view(upload, route_name="upload", renderer="json", request_method="POST")
        return config.make_wsgi_app()
