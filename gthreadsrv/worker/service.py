"""A complete request through the application, and its response's end.

`Service.run` is the middle of every request's way: environ, application, response, count,
and where the connection goes next.  Runs in the serving thread; `refuse`, `flush` and
`close` also in the leader, which may be another.
"""

from __future__ import annotations

import io
import threading
from time import monotonic, time_ns
from typing import IO, TYPE_CHECKING

from gthreadsrv.http.errors import ProtocolError
from gthreadsrv.http.request import RequestHead
from gthreadsrv.http.response import phrase
from gthreadsrv.log import access_log
from gthreadsrv.log.access import client_of
from gthreadsrv.log.context import bind_new, bind_request, is_sampled
from gthreadsrv.log.context import clear as unbind_request
from gthreadsrv.tracing import listen_here
from gthreadsrv.worker.clock import ODD_S
from gthreadsrv.worker.complaints import complain
from gthreadsrv.worker.connection import IDLE, WRITING, State
from gthreadsrv.worker.error_page import error_page
from gthreadsrv.worker.interrupt import Interruption, RequestTimeoutError
from gthreadsrv.worker.offspring import leave_child
from gthreadsrv.worker.patience import patience_of
from gthreadsrv.worker.pending import Pending
from gthreadsrv.worker.pool import PACE_WEIGHT
from gthreadsrv.worker.request_start import seconds_since
from gthreadsrv.wsgi import metrics_path
from gthreadsrv.wsgi.exchange import ClientGoneError, Exchange, close_result

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import WSGIApplication
    from structlog.typing import FilteringBoundLogger

    from gthreadsrv.http.response import HeadEncoder
    from gthreadsrv.settings import Settings
    from gthreadsrv.worker.connection import Connection
    from gthreadsrv.worker.intake import Intake
    from gthreadsrv.worker.pool import Pool
    from gthreadsrv.worker.wire import Wire
    from gthreadsrv_metrics.scoreboard import ThreadRow

__all__ = ["LINGER_S", "Service"]

LINGER_S = 2.0
_LINGER_BYTES = 256 * 1024

# Stands in where the request could not be read.
_UNREADABLE = RequestHead("", "", 1, [], -1, False, False, False, "", "", b"")

_TEXT = [("Content-Type", "text/plain; charset=utf-8")]


class Service:
    """Serves requests on one pool thread."""

    def __init__(
        self,
        app: WSGIApplication,
        pool: Pool,
        row: ThreadRow,
        settings: Settings,
        encoder: HeadEncoder,
        log: FilteringBoundLogger,
        *homes: str,
    ) -> None:
        """``homes`` are files whose code stands between this one and the application."""
        self._app, self._pool = app, pool
        self.row = row
        self._patience = patience_of(settings)
        self.keeps_alive, self._idle_s = self._patience.keeps_alive, self._patience.idle_s
        self._pipelines_s = settings.graceful_timeout / 2
        self._encoder, self._log = encoder, log
        self.lets_go = False  # until the next connection has ended: see balance
        self._debug_errors = settings.debug_errors

        self.exchange: Exchange | None = None
        """The latest one; it runs while `row.since` is set.  The watchdog looks at it."""
        self.interruption = Interruption(__file__, metrics_path.__file__, *homes)
        """Of the request that runs, when it is overdue.  The watchdog sends it."""

    def enter_thread(self) -> None:
        """Make the row that of the calling thread, and hear what its requests belong to."""
        self.row.attach(threading.get_native_id())
        listen_here(self._note_trace)

    # -- a request ----------------------------------------------------------------------

    def run(self, connection: Connection, intake: Intake, now: float) -> tuple[State | None, float]:
        """Serve ``connection``'s request; return where it goes next, and the instant.

        ``now`` is the monotonic instant at which the thread took it on.
        """
        row, pool = self.row, self._pool
        row.begin(now)
        head = connection.head
        assert head is not None  # noqa: S101 - a connection gets here with a request only
        upload = connection.upload
        body: IO[bytes]
        if upload is None:
            body, body_in = io.BytesIO(), 0
        else:
            body, body_in = upload.finish(), upload.size
        wall_ns = time_ns()
        # Bytes of further requests came with this one's, and the stamp is that of the last: the
        # kernel joins segments in its queue.
        kernel = connection.arrival_ns > 0 and not connection.rest
        queue_s = (wall_ns - connection.arrival_ns) * 1e-9 if kernel else now - connection.read_at
        if not 0.0 <= queue_s < ODD_S and kernel and pool.clock.spoils(queue_s):
            kernel, queue_s = False, now - connection.read_at
        wire = connection.wire
        exchange = Exchange(
            head,
            wire,
            self._encoder,
            wall_ns // 1_000_000_000,
            head.keep_alive
            and (self.keeps_alive or (self.lets_go and self._has_sent_more(connection)))
            and (not pool.closing or self._goes_on(connection)),
        )
        self.exchange = exchange
        try:
            environ = connection.port.environs.build(
                head, body, -1 if upload is None else body_in, connection.peer, connection.trusted
            )
        except ProtocolError as error:
            # A trusted proxy's fields contradict each other.
            row.abandon(now)
            self.refuse(connection, error)
            return None, now
        section = head.section
        if section is None or section.traced:
            traceparent = environ.get("HTTP_TRACEPARENT")
            request_id, trace_id = bind_request(
                environ.get("HTTP_X_REQUEST_ID"), traceparent, environ.get("HTTP_X_AMZN_TRACE_ID")
            )
            exemplar = trace_id if traceparent and trace_id and is_sampled(traceparent) else ""
            if "HTTP_X_REQUEST_START" in environ and connection.trusted:
                seconds = seconds_since(environ["HTTP_X_REQUEST_START"], wall_ns * 1e-9)
                if seconds is not None:
                    row.proxy_queue(seconds)
        else:
            request_id = bind_new()
            trace_id = exemplar = ""
        failure: BaseException | None = None
        result: Iterable[bytes] | None = None
        interruption = self.interruption
        try:
            interruption.inside_since = now
            result = self._app(environ, exchange.start_response)
            if pool.closing and not exchange.started:
                # The worker may have begun to drain while the application ran, and more come.
                exchange.keep_alive = (
                    head.keep_alive
                    and (self.keeps_alive or self.lets_go)
                    and self._goes_on(connection)
                )
            exchange.send_result(result)
        except BaseException as error:  # noqa: BLE001 - the application may raise anything
            failure = error
        # Up to here nothing is called: CPython raises what another thread sends at calls only.
        interruption.inside_since = 0.0
        if interruption.since and not pool.forked:
            interruption.settle()
        if type(result) is not list:  # which has no close()
            # Only now: an interruption on its way could come instead of the call. One that is
            # stuck in close() itself has its worker replaced.
            failure = close_result(result, failure)
        if pool.forked:
            gone = wire.lost and isinstance(failure, ClientGoneError)
            leave_child(None if gone else failure, pool.forked_by)
        if failure is not None:
            # A ClientGoneError may be one that the application has kept from another request.
            if not (wire.lost and isinstance(failure, ClientGoneError)):
                exchange = self._fail(connection, head, exchange, failure)
            failure = None  # break the cycle through this frame
        done = monotonic()
        app_s = done - now
        # A moving average, without a call; a lost update harms nobody.
        pool.pace_s += (app_s - pool.pace_s) * PACE_WEIGHT
        if upload is not None:
            body.close()
            connection.upload = None
        connection.head = None
        if exchange.complaint or exchange.aside is not None:
            complain(self._log, head, exchange)
            aside = exchange.aside
            if aside is not None and aside.trace_id:
                trace_id = aside.trace_id
                exemplar = trace_id if aside.sampled else ""

        unbind_request()

        if wire.lost:
            row.abandon(done)
            row.count_error("client_disconnect")
            self.close(connection, "client")
            return None, done
        if wire.outbox is None:
            # The usual case, in which nothing need be kept of the request.
            row.finish(
                done,
                head.method,
                exchange.code,
                connection.first_read,
                app_s,
                queue_s,
                kernel,
                body_in,
                exchange.sent,
                exemplar,
            )
            access = access_log()
            if access is not None:
                access.log(
                    client_of(environ, connection.peer),
                    head,
                    exchange,
                    done - connection.first_read,
                    wall_ns * 1e-9,
                    request_id,
                    trace_id,
                    environ,
                )
        else:
            row.abandon(done)
            connection.pending = Pending(
                head,
                exchange,
                connection.first_read,
                app_s,
                queue_s,
                kernel,
                body_in,
                environ,
                wall_ns * 1e-9,
                request_id,
                trace_id,
                exemplar,
            )
            if not exchange.keep_alive:
                connection.then_close = self._reason(wire, exchange, head)
            pool.expect(connection, done + self._patience.write_s)
            return WRITING, done
        if exchange.keep_alive:
            if connection.rest:
                return intake.next_request(connection, done), done
            pool.expect(connection, done + self._idle_s)
            return IDLE, done
        self._end(connection, self._reason(wire, exchange, head), lingering=head.keep_alive)
        return None, done

    def _has_sent_more(self, connection: Connection) -> bool:
        """Say whether a further request has come on ``connection``, or its beginning.

        What the client has sent already, in a pipeline, would go unanswered if this response
        ended the connection.
        """
        return bool((connection.rest or connection.wire.peek()).strip(b"\r\n"))

    def _goes_on(self, connection: Connection) -> bool:
        """Say whether a draining worker is to serve a further request on ``connection``.

        For half of the graceful timeout: a client whose pipeline never runs dry must not keep
        the worker.
        """
        if monotonic() - self._pool.closing_since > self._pipelines_s:
            return False
        return self._has_sent_more(connection)

    def _fail(
        self,
        connection: Connection,
        head: RequestHead,
        exchange: Exchange,
        error: BaseException,
    ) -> Exchange:
        """Log the application's exception and answer for it, if that can still be done."""
        if isinstance(error, RequestTimeoutError):
            # Logged with its stack already.  The client may ask another server again.
            code, text = 504, b"Gateway Timeout\n"
        else:
            code, text = 500, b"Internal Server Error\n"
            if self._debug_errors:
                text = error_page(error)
            self.row.count_error("application_error")
            self._log.error(
                "application failed",
                method=head.method,
                target=head.target,
                client=connection.peer[0],
                exc_info=error,
            )
        started = exchange.started
        exchange.end()
        if started:
            # The client has a status already; only a cut connection can tell it more.
            exchange.cut = True
            exchange.keep_alive = False
            return exchange
        second = time_ns() // 1_000_000_000
        answer = Exchange(head, connection.wire, self._encoder, second, exchange.keep_alive)
        answer.aside = exchange.aside
        self.exchange = answer
        try:
            answer.start_response(phrase(code), _TEXT)
            answer.send_result([text])
        except ClientGoneError:
            pass
        return answer

    def _note_trace(self, trace_id: str, sampled: bool) -> bool:
        """Take the application's word for its request's trace."""
        exchange = self.exchange
        if not self.interruption.inside_since or exchange is None:
            return False
        aside = exchange.make_aside()
        aside.trace_id, aside.sampled = trace_id, sampled
        return True

    def _count(self, connection: Connection, pending: Pending, now: float) -> None:
        """Count and log a response whose last byte the kernel has taken."""
        exchange = pending.exchange
        self.row.finish(
            now,
            pending.head.method,
            exchange.code,
            pending.started,
            pending.app_s,
            pending.queue_s,
            pending.kernel,
            pending.body_in,
            exchange.sent,
            pending.exemplar,
        )
        access = access_log()
        if access is not None:
            access.log(
                client_of(pending.environ, connection.peer),
                pending.head,
                exchange,
                now - pending.started,
                pending.wall_s,
                pending.request_id,
                pending.trace_id,
                pending.environ,
            )

    # -- responses of our own --------------------------------------------------------------

    def refuse(self, connection: Connection, error: ProtocolError) -> None:
        """Answer a request that breaks the rules, and end the connection.  Its owner."""
        self._log.info(
            "request refused",
            status=error.status,
            reason=error.reason,
            detail=error.detail,
            client=connection.peer[0],
        )
        self._answer(connection, error.status, error.reason, error.advice)

    def fail_upload(self, connection: Connection, error: OSError) -> None:
        """Answer a request whose body could not be stored.  Its owner."""
        self._log.error("request body cannot be stored", detail=str(error))
        self._answer(connection, 500, None)

    def _answer(
        self, connection: Connection, status: int, reason: str | None, advice: str = ""
    ) -> None:
        if connection.upload is not None:
            # Before the answer: a client that tries a smaller one next must find the room.
            connection.upload.discard()
            connection.upload = None
        head = connection.head or _UNREADABLE
        now = monotonic()
        wall_ns = time_ns()
        exchange = Exchange(head, connection.wire, self._encoder, wall_ns // 1_000_000_000, False)
        text = phrase(status)
        if reason is not None:
            self.row.count_error(reason)
        try:
            exchange.start_response(text, _TEXT)
            exchange.send_result([f"{text}\n{advice}".encode("ascii")])
        except ClientGoneError:
            self.close(connection, "client")
            return
        pending = Pending(
            head, exchange, connection.first_read, -1.0, -1.0, False, 0, {}, wall_ns * 1e-9
        )
        if connection.wire.outbox is not None:
            # The client has yet to read what came before.
            connection.pending = pending
            connection.then_close = "error"
            self._pool.send_on(connection, now + self._patience.write_s)
            return
        self._count(connection, pending, now)
        self._end(connection, "error", lingering=True)

    def log_bug(self, error: BaseException) -> None:
        """Report a fault of the server's own, before the worker ends."""
        self._log.critical("bug in the server, the worker ends", exc_info=error)

    def log_tls_failure(self, connection: Connection, detail: str) -> None:
        """Say why a client did not get in; counted as an error of its own."""
        self.row.count_error("tls")
        self._log.info("TLS failed", detail=detail, client=connection.peer[0])

    def log_out_of_resources(self, error: OSError) -> None:
        """Say why no connection is accepted for a second."""
        self._log.error(
            "cannot accept connections",
            detail=error.strerror,
            advice="raise the limit of open files, or lower worker_connections",
        )

    # -- the end of a response ---------------------------------------------------------------

    def flush(self, connection: Connection, intake: Intake) -> State | None:
        """Send more of a response; say where the connection belongs.  The leader.

        None: it has ended, and is seen to.
        """
        now = monotonic()
        try:
            done = connection.wire.flush()
        except ClientGoneError:
            self.lose(connection)
            return None
        if not done:
            self._pool.expect(connection, now + self._patience.write_s)
            return WRITING
        pending, connection.pending = connection.pending, None
        if pending is not None:
            self._count(connection, pending, now)
        if connection.then_close:
            self._end(connection, connection.then_close, lingering=True)
            return None
        return intake.next_request(connection, now)

    def lose(self, connection: Connection, reason: str = "client") -> None:
        """Note that the client left in the middle of a request or response.  Its owner."""
        self.row.count_error("client_disconnect")
        self.close(connection, reason)

    def _reason(self, wire: Wire, exchange: Exchange, head: RequestHead) -> str:
        if exchange.cut:
            wire.cut = True
            return "error"
        if self.lets_go and head.keep_alive and not self._pool.closing:
            self.lets_go, self.keeps_alive = False, True
            return "rebalance"
        return self._pool.close_reason if self._pool.closing else "client"

    def _end(self, connection: Connection, reason: str, *, lingering: bool) -> None:
        """End a connection after its last response.

        A client that did not ask for the end may have sent more already; closing on unread
        bytes makes the kernel reset the connection, and the reset overtakes the response.
        """
        self.row.count_close(reason)
        if lingering or connection.rest or connection.wire.lingers:
            self.linger(connection)
        else:
            self.close(connection, None)

    def linger(self, connection: Connection) -> None:
        """Shut our side and wait a moment for the client's end (RFC 9112 9.6).  Its owner."""
        connection.linger_left = _LINGER_BYTES
        connection.rest = b""
        connection.buffer = connection.body = connection.head = None
        self.shut(connection)

    def shut(self, connection: Connection) -> None:
        """Shut our side, as far as the client takes the last of it; then wait.  Its owner."""
        if connection.wire.shut():
            self._pool.linger(connection, monotonic() + LINGER_S)
        else:
            self.close(connection, None)

    def close(self, connection: Connection, reason: str | None) -> None:
        """Close ``connection`` now, counted under ``reason`` unless it has been.  Its owner."""
        if reason is not None:
            self.row.count_close(reason)
        self._pool.forget(connection)
        connection.wire.close()
        if connection.upload is not None:
            connection.upload.discard()
            connection.upload = None
        connection.pending = None
        connection.sock.close()
