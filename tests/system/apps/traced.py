"""Applications under OpenTelemetry's own instrumentations.

Each answers with the trace id that its code sees, and logs a structlog line with it. A query of
`fail` raises, `stream` answers piece by piece.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import django
import structlog
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from flask import Flask
from opentelemetry import trace
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider

from gthreadsrv.otel import RequestSpans

logging.basicConfig(stream=sys.stderr)
provider = TracerProvider()
provider.add_span_processor(RequestSpans())
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("tests")
log = structlog.wrap_logger(
    structlog.WriteLogger(sys.stdout),
    processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
)


def work(query: str) -> str:
    """The trace id of the current span, as seen below further spans; or an error."""
    with tracer.start_as_current_span("query a database"), tracer.start_as_current_span("wait"):
        if query == "fail":
            raise RuntimeError("failed on purpose")
        found = trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)
    log.info("worked", seen=found)
    return found


def plain(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = work(environ["QUERY_STRING"]).encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["QUERY_STRING"] == "stream":
        return pieces(body)
    return [body]


def pieces(body: bytes) -> Iterator[bytes]:
    yield body[:16]
    yield body[16:]


wsgi_app = OpenTelemetryMiddleware(plain)

flask_app = Flask("traced")
flask_app.add_url_rule("/", "index", lambda: work(_flask_query()))
FlaskInstrumentor().instrument_app(flask_app)


def _flask_query() -> str:
    from flask import request

    return request.query_string.decode()


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse(work(request.META["QUERY_STRING"]), content_type="text/plain")


settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="no secret", DEBUG=False)
urlpatterns = [path("", index)]
DjangoInstrumentor().instrument()
django.setup()
django_app = get_wsgi_application()
