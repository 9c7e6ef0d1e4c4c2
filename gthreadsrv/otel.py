"""OpenTelemetry's traces in gthreadsrv's exemplars and access log: one span processor.

Imported by applications that use OpenTelemetry, never by the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind

from gthreadsrv.tracing import bind_traceparent

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span

__all__ = ["RequestSpans"]


class RequestSpans(SpanProcessor):
    """Tells the server the trace of each request, whether it came with one or not.

    Add it to the tracer provider: ``provider.add_span_processor(RequestSpans())``. It looks at
    the span with which an instrumentation (WSGI, Flask, Django, Pyramid, ...) begins a request:
    of kind SERVER, without a parent in this process. Spans that are not recorded, as the sampler
    decides, are not seen; their requests have the trace they came with, if any.
    """

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        """Take note of a request's span."""
        if span.kind is not SpanKind.SERVER:
            return
        if span.parent is not None and not span.parent.is_remote:
            return
        context = span.get_span_context()
        bind_traceparent(
            f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        )
