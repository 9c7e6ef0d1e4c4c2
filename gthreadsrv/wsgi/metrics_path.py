"""The metrics page on the main listeners, at a path of its own (`--metrics-path`).

For platforms that route a single port.  A scrape then needs a free thread of a worker, which
the metrics port does not.  Must not import prometheus_client before somebody asks for the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["with_metrics"]


def with_metrics(app: WSGIApplication, path: str) -> WSGIApplication:
    """Return ``app`` with the metrics page at ``path``, which the application never sees."""

    def dispatch(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != path:
            return app(environ, start_response)
        from gthreadsrv_metrics.exporter import wsgi_app

        return wsgi_app(environ, start_response)

    return dispatch
