"""What a gthreadsrv server knows about itself: shared memory, its catalogue and its exporter.

Imported by every process of the server, so nothing here or in ``scoreboard`` and
``catalogue`` may import prometheus_client: it costs a worker 9 MB and 60 ms that only the
exporter and applications that use it should pay. The two names that need it are therefore
loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gthreadsrv_metrics.collector import MultiprocessCollector
    from gthreadsrv_metrics.exporter import wsgi_app

__all__ = ["MultiprocessCollector", "wsgi_app"]

_LAZY = {"MultiprocessCollector": "collector", "wsgi_app": "exporter"}


def __getattr__(name: str) -> Any:
    """Import the module behind a lazily offered name (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
