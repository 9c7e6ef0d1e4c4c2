"""A service whose requests have hooks: pre_request before the application, post_request after.

Chosen at the start where the configuration file has one of the two; everybody else's requests
go through `Service` alone. Runs in the serving thread.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from gthreadsrv.hooks.calling import HookError, report
from gthreadsrv.hooks.requests import Request, Response
from gthreadsrv.worker.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication

    from gthreadsrv.hooks import WorkerHooks
    from gthreadsrv.http.request import RequestHead
    from gthreadsrv.worker.connection import Connection, State
    from gthreadsrv.worker.intake import Intake

__all__ = ["HookedService"]


class HookedService(Service):
    """Serves requests on one pool thread, and calls their hooks."""

    def __init__(self, hooks: WorkerHooks, app: WSGIApplication, *rest: Any) -> None:
        super().__init__(self._enter, *rest, __file__)
        self._inner = app
        self._hooks = hooks
        self._head: RequestHead | None = None
        self._request: Request | None = None
        self._environ: dict[str, Any] = {}

    def run(self, connection: Connection, intake: Intake, now: float) -> tuple[State | None, float]:
        """Serve ``connection``'s request as `Service` does; the hooks around it."""
        self._head = connection.head
        self._request = None
        state, done = super().run(connection, intake, now)
        if self._hooks.post_request is None or self._request is None:
            return state, done
        # Busy until then: one that is stuck there is found as a stuck request is.
        self.row.begin(done)
        self._leave(self._hooks.post_request, self._request)
        now = monotonic()
        self.row.abandon(now)
        if state is not None:
            # Whatever it waits for next has its time from now on, as the thread's next request.
            self._pool.expect(connection, connection.deadline + now - done)
        return state, now

    def _enter(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """The application with what goes before it: an exception there is the application's."""
        assert self._head is not None  # noqa: S101 - set by `run`
        request = self._request = Request(self._head, environ)
        self._environ = environ
        worker = self._hooks.worker
        worker.nr += 1
        if self._hooks.pre_request is not None:
            self._hooks.pre_request(worker, request)
            for name, value in request.added():
                environ["HTTP_" + name.upper().replace("-", "_")] = value
        return self._inner(environ, start_response)

    def _leave(self, hook: Any, request: Request) -> None:
        exchange = self.exchange
        assert exchange is not None  # noqa: S101 - `run` has made one
        response = Response(
            exchange.status,
            exchange.headers if exchange.status else [],
            exchange.sent,
            request.version,
            headers_sent=exchange.started,
        )
        try:
            hook(self._hooks.worker, request, self._environ, response)
        except BaseException as error:  # noqa: BLE001 - the client has its response
            report("post_request", HookError("post_request", error))
        self._environ = {}
