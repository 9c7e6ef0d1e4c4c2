"""An application with metrics of its own, by prometheus_client."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

calls = Counter("shop_calls", "Calls.", ["path"])
seconds = Histogram("shop_seconds", "Seconds.")
running = Gauge("shop_running", "Running now.", multiprocess_mode="livesum")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Count the call and answer."""
    running.inc()
    calls.labels(environ["PATH_INFO"]).inc()
    seconds.observe(0.1)
    running.dec()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"counted\n"]
