"""Telling the server a request's trace: what is taken, and where nobody listens."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from structlog.contextvars import clear_contextvars, get_contextvars

from gthreadsrv import tracing
from gthreadsrv.tracing import bind_traceparent, listen_here

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


@pytest.fixture
def told() -> Iterator[list[tuple[str, bool]]]:
    """What the worker's thread is told; there is a request unless the list says otherwise."""
    found: list[tuple[str, bool]] = []

    def note(trace_id: str, sampled: bool) -> bool:
        found.append((trace_id, sampled))
        return trace_id == TRACE

    listen_here(note)
    yield found
    del tracing._thread.note
    clear_contextvars()


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)]
)
def test_trace_and_sampling_are_told(
    told: list[tuple[str, bool]], flags: str, sampled: bool
) -> None:
    """The lowest flag says whether the trace is recorded; the whole is in structlog's context."""
    text = f"00-{TRACE}-{SPAN}-{flags}"
    assert bind_traceparent(text) is True
    assert told == [(TRACE, sampled)]
    assert get_contextvars() == {"traceparent": text}


def test_outside_a_request_nothing_is_done(told: list[tuple[str, bool]]) -> None:
    """In a thread of the application's, under another server, between requests."""
    other = f"00-{TRACE[::-1]}-{SPAN}-01"
    assert bind_traceparent(other) is False
    assert get_contextvars() == {}
    answers: list[bool] = []
    thread = threading.Thread(
        target=lambda: answers.append(bind_traceparent(f"00-{TRACE}-{SPAN}-01"))
    )
    thread.start()
    thread.join()
    assert answers == [False]


@pytest.mark.parametrize("text", ["", "x", f"00-{TRACE}-{SPAN}", f"ff-{TRACE}-{SPAN}-01", TRACE])
def test_nonsense_is_refused(told: list[tuple[str, bool]], text: str) -> None:
    """A tracer's mistake is told to whoever wrote the call, wherever it runs."""
    with pytest.raises(ValueError, match="is no traceparent"):
        bind_traceparent(text)
    assert told == []


def test_the_server_imports_no_opentelemetry() -> None:
    """Installed or not, it is the application that asks for it."""
    code = (
        "import sys, gthreadsrv.cli, gthreadsrv.worker.process, gthreadsrv.master.serving,"
        " gthreadsrv.tracing, gthreadsrv_metrics.exporter;"
        "print([n for n in sys.modules if n.startswith(('opentelemetry', 'gthreadsrv.otel'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
