"""What the leader does with the poller's news: accept, read, flush, expire.

Turns events into connections whose request is complete.  Nothing here waits but the
poller itself.  One intake per thread, since the parser is; all state that outlives a turn
is the pool's or the connection's.
"""

from __future__ import annotations

import errno
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from gthreadsrv.http.body import ChunkedBody, LengthBody
from gthreadsrv.http.errors import ProtocolError
from gthreadsrv.http.head import HeadBuffer, split_head
from gthreadsrv.worker.connection import (
    ACTIVE,
    HANDSHAKING,
    IDLE,
    LINGERING,
    READING,
    WRITING,
    State,
)
from gthreadsrv.worker.handshake import Handshakes, TlsError
from gthreadsrv.worker.patience import patience_of
from gthreadsrv.worker.poller import READ
from gthreadsrv.worker.room import Room
from gthreadsrv.worker.sweep import sweep
from gthreadsrv.worker.upload import Upload
from gthreadsrv.wsgi.exchange import ClientGoneError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gthreadsrv.http.limits import Limits
    from gthreadsrv.http.recall import RecallingParser
    from gthreadsrv.settings import Settings
    from gthreadsrv.worker.connection import Connection
    from gthreadsrv.worker.drain import Drain
    from gthreadsrv.worker.pool import Pool
    from gthreadsrv.worker.ports import Port
    from gthreadsrv.worker.service import Service

__all__ = ["FRESH_S", "Intake"]

_RECEIVE_BYTES = 16 * 1024
"""One read of a head: four times what browsers send with all their cookies."""

_RECEIVE_BODY_BYTES = 256 * 1024

FRESH_S = 0.02
"""How long a thread is kept for a new connection that is still silent.

A client sends its request right after the handshake; without this a worker would accept
more of a burst than it has threads for, while other workers have some to spare.  A client
that loses its processor in between is away for some milliseconds.
"""

_RUSH_S = 0.05
"""How long no thread is kept once a silent connection has used up its time.

Where one is silent more are: a crowd of them is accepted at once, not one in `FRESH_S`.
"""

_SCARCITY_S = 1.0
"""Between two tries, and two log lines, while descriptors or memory have run out."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Intake:
    """The reading side of one pool thread."""

    def __init__(
        self,
        pool: Pool,
        settings: Settings,
        limits: Limits,
        ports: Mapping[int, Port],
        parser: RecallingParser,
        service: Service,
        drain: Drain,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._patience = patience_of(settings)
        self._limits = limits
        self._ports = ports
        self._parser = parser
        self._recall = parser.recall
        self._service = service
        self._drain = drain
        self._row = service.row
        self._handshakes = Handshakes(pool, self._patience, service)
        self._room = Room(pool, settings.worker_connections, self._patience, service)

    # -- the leader's loop --------------------------------------------------------------

    def next(self) -> Connection | None:
        """Wait for a connection with a complete request; None when the pool ends."""
        pool = self._pool
        while True:
            connection = self.next_now()
            if connection is not None:
                return connection
            if pool.stopped.is_set():
                return None
            timeout_s = self._pause() if pool.fresh or pool.paused or pool.unswept else None
            pool.events.extend(pool.poller.poll(timeout_s))

    def _pause(self) -> float | None:
        """Do what is due between requests; return how long the poller may wait, in seconds."""
        pool = self._pool
        timeout_s = self._gate() if pool.fresh or pool.paused else None
        if pool.unswept:
            now = monotonic()
            if now >= pool.sweep_at:
                sweep(pool, self._service, self._handshakes, now)
            if pool.unswept:
                rest_s = max(0.0, pool.sweep_at - now)
                timeout_s = rest_s if timeout_s is None else min(timeout_s, rest_s)
        return timeout_s

    def next_now(self) -> Connection | None:
        """Return a connection with a complete request out of what has been reported."""
        pool = self._pool
        if pool.ready:
            return pool.ready.popleft()
        events = pool.events
        while events:
            fd, _mask = events.popleft()
            connection = pool.connections.get(fd)
            if connection is not None:
                if connection.state <= READING:
                    found = self._on_readable(connection)
                else:
                    found = self._on_event(connection)
            elif fd in self._ports:
                found = self._on_listener(self._ports[fd])
            else:
                if fd == pool.poke_fd:
                    self._on_poke()
                found = None
            if found is not None:
                return found
        return None

    def _on_event(self, connection: Connection) -> Connection | None:
        state = connection.state
        if state is ACTIVE:
            self._pool.unwatch_active(connection)
        elif state is WRITING:
            return self._on_writable(connection)
        elif state is HANDSHAKING:
            return self._on_readable(connection)
        elif state is LINGERING:
            self._on_lingering(connection)
        return None

    # -- accepting ----------------------------------------------------------------------

    def _may_accept(self, now: float) -> bool:
        """Say whether a thread is free for one connection more.

        The kernel's backlog is the one queue that all workers share: what one of them
        takes out must not wait while another has a thread to spare.
        """
        pool = self._pool
        fresh = pool.fresh
        while fresh and fresh[0].fresh_until <= now:
            silent_until = fresh.popleft().fresh_until
            if silent_until:
                pool.rush_until = silent_until + _RUSH_S
                fresh.clear()
        return (
            pool.accepting
            and now >= pool.resume_at
            and pool.free_threads() > sum(1 for one in fresh if one.fresh_until)
            and self._room.there(now)
        )

    def _gate(self) -> float | None:
        """Watch the listeners or not; return how long the poller may wait, in seconds."""
        pool = self._pool
        # Before the look: a thread that comes back after it will poke (`Pool.settle`).
        pool.paused = True
        now = monotonic()
        if self._may_accept(now):
            self.open_ports()
            return None
        self.close_ports()
        if not pool.accepting:
            return None
        if pool.resume_at > now:
            return pool.resume_at - now
        # A fresh connection that has spoken or aged lets the next one in, and so does room.
        until = pool.fresh[0].fresh_until if pool.fresh else inf
        if pool.room_at > now and self._room.full():
            until = min(until, pool.room_at)
        return max(0.0, until - now) if until < inf else None

    def open_ports(self) -> None:
        """Have the poller report new connections.  The leader."""
        pool = self._pool
        pool.paused = False
        for port in self._ports.values():
            if not port.watched:
                pool.poller.add(port.fd, READ)
                port.watched = True

    def close_ports(self) -> None:
        """Leave new connections to the kernel's queue.  The leader."""
        pool = self._pool
        pool.paused = True
        for port in self._ports.values():
            if port.watched:
                pool.poller.remove(port.fd)
                port.watched = False

    def _on_listener(self, port: Port) -> Connection | None:
        """Accept one connection, and look again after the next event or poll."""
        pool = self._pool
        now = monotonic()
        if not self._may_accept(now):
            self.close_ports()
            return None
        try:
            sock, peer = port.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            # Another worker was quicker, or the client gave up.
            return None
        except OSError as error:
            self._on_scarcity(error, now)
            return None
        if self._room.full():
            # Only now: had another worker been quicker, one would be closed for nothing.
            self._room.make(now)
        connection = port.admit(sock, peer, self._patience.write_s)
        pool.connections[connection.fd] = connection
        if pool.events and not self._room.full():
            # More may wait. They take turns with the connections that are here already: one
            # accept in each round of the poller would be a second's wait for the last of them.
            # At the limit it is one: who makes room for it may have a request in these events.
            pool.events.insert(1, (port.fd, READ))
        self._row.count_accept()
        # The request is often there already; then the poller never hears of the connection.
        found = self._on_readable(connection)
        if found is None and connection.state in (IDLE, HANDSHAKING) and now >= pool.rush_until:
            connection.fresh_until = now + FRESH_S
            pool.fresh.append(connection)
        if found is None and connection.state is IDLE and not connection.polled:
            # A silent connection is as cheap as an idle one: browsers and balancers open
            # them ahead of need.
            pool.watch(connection, now + self._patience.idle_s)
        return found

    def _on_scarcity(self, error: OSError, now: float) -> None:
        """Make room where accept(2) finds none, or leave the listeners alone for a second.

        Whatever else it is: logged and paused, it neither spins nor ends the worker.
        """
        pool = self._pool
        if now >= pool.complain_at:
            pool.complain_at = now + _SCARCITY_S
            self._service.log_out_of_resources(error)
        # Our own limit of descriptors is a connection limit that nobody has set: idle clients
        # go, so that others are served.  Where the whole machine lacks something that helps nobody.
        if error.errno == errno.EMFILE and self._room.make(now):
            return
        pool.resume_at = now + _SCARCITY_S
        self.close_ports()

    # -- reading ------------------------------------------------------------------------

    def _on_readable(self, connection: Connection) -> Connection | None:
        size = _RECEIVE_BYTES if connection.body is None else _RECEIVE_BODY_BYTES
        try:
            data, arrival_ns = connection.receive(connection.sock, size)
        except (BlockingIOError, InterruptedError):
            if connection.wire.shaking:
                if self._handshakes.go_on(connection):
                    # The first request may have come with the handshake's last bytes.
                    return self._on_readable(connection)
            elif connection.wire.partial:
                self._on_part(connection)
            return None
        except ProtocolError as error:
            # Of the connection, before any request.
            connection.first_read = monotonic()
            self._service.refuse(connection, error)
            return None
        except TlsError as error:
            self._handshakes.fail(connection, error)
            return None
        except OSError:
            # A reset: between requests a client that leaves, as an end of stream is.
            self._on_end(connection)
            return None
        if not data:
            self._on_end(connection)
            return None
        connection.arrival_ns = arrival_ns
        connection.read_at = now = monotonic()
        connection.fresh_until = 0.0
        if connection.state is IDLE:
            connection.first_read = now
            if len(data) <= self._limits.plain_head:
                head = self._recall(data)
                if head is not None:
                    # The usual case: one read, one request, from a client seen before.
                    connection.head = head
                    connection.move(ACTIVE)
                    return connection
        if self._digest(connection, data) is ACTIVE:
            connection.move(ACTIVE)
            return connection
        return None

    def _on_part(self, connection: Connection) -> None:
        """Note bytes of a TLS record that is not whole: of a request, as any others are."""
        connection.read_at = now = monotonic()
        connection.fresh_until = 0.0
        if connection.state is IDLE:
            connection.first_read = now
            connection.move(READING)
        self._pool.watch(connection, self._patience.rest_by(connection))

    def _on_end(self, connection: Connection) -> None:
        """Handle the client's end of stream."""
        connection.fresh_until = 0.0
        if connection.state is IDLE:
            self._service.close(connection, "client")
        elif connection.state is HANDSHAKING:
            self._handshakes.lose(connection, "client")
        else:
            # RFC 9112 8: a request cut short is never given to the application.
            self._service.lose(connection)

    def _digest(self, connection: Connection, data: bytes) -> State | None:
        """Take ``data`` into the request, and wait for more in the poller if need be."""
        state = self.progress(connection, data)
        if state is READING:
            if connection.state is not READING:
                connection.move(READING)
            self._pool.watch(connection, connection.deadline)
        return state

    def progress(self, connection: Connection, data: bytes) -> State | None:
        """Take ``data`` into the request and say where the connection now belongs.

        ACTIVE: the request is complete.  READING: more must come, until the deadline that
        has been set.  None: the request was refused, and the connection is seen to.
        """
        try:
            complete = self._take(connection, data)
        except ProtocolError as error:
            self._service.refuse(connection, error)
            return None
        except ClientGoneError:
            # The client left before our 100 (Continue).
            self._service.lose(connection)
            return None
        except OSError as error:
            # The disk that a large body was written to.
            self._service.fail_upload(connection, error)
            return None
        if complete:
            return ACTIVE
        self._pool.expect(connection, self._patience.rest_by(connection))
        return READING

    def next_request(self, connection: Connection, now: float) -> State | None:
        """Say where ``connection`` belongs after a response that keeps it alive."""
        data = connection.rest
        if not data:
            self._pool.expect(connection, now + self._patience.idle_s)
            return IDLE
        connection.rest = b""
        connection.first_read = connection.read_at
        state = self.progress(connection, data)
        if state is READING:
            # The client's time begins now: more may have come while the last request ran,
            # and nobody has read it.
            connection.first_read = now
            patience = self._patience
            wait_s = patience.head_s if connection.body is None else patience.body_s
            self._pool.expect(connection, now + wait_s)
        return state

    def _take(self, connection: Connection, data: bytes) -> bool:
        head = connection.head
        if head is None:
            buffer = connection.buffer
            if buffer is None:
                end = split_head(data, self._limits)
                if end > 0:
                    connection.rest = data[end:]
                    head = self._parser.parse(data if end == len(data) else data[:end])
                else:
                    buffer = connection.buffer = HeadBuffer(self._limits)
            if buffer is not None:
                raw = buffer.feed(data)
                if raw is None:
                    return False
                connection.rest = buffer.rest
                connection.buffer = None
                head = self._parser.parse(raw)
            assert head is not None  # noqa: S101 - one of the two branches set it
            connection.head = head
            if head.content_length <= 0 and not head.chunked:
                return True
            self._begin_body(connection)
            data, connection.rest = connection.rest, b""
            if not data:
                return False
        return self._take_body(connection, data)

    def _begin_body(self, connection: Connection) -> None:
        head = connection.head
        assert head is not None  # noqa: S101 - the caller just set it
        connection.body = (
            ChunkedBody(self._limits) if head.chunked else LengthBody(head.content_length)
        )
        connection.upload = Upload()
        if head.expect_continue and not connection.rest:
            connection.wire.send(_CONTINUE)

    def _take_body(self, connection: Connection, data: bytes) -> bool:
        body, upload = connection.body, connection.upload
        assert body is not None  # noqa: S101 - a head that announces a body made both
        assert upload is not None  # noqa: S101
        for chunk in body.feed(data):
            upload.write(chunk)
        if not body.done:
            return False
        upload.seal()
        connection.rest = body.rest
        connection.body = None
        return True

    # -- writing and closing -------------------------------------------------------------

    def _on_writable(self, connection: Connection) -> Connection | None:
        """Send on what a slow client had yet to take."""
        state = self._service.flush(connection, self)
        if state is WRITING or state is None:
            return None
        connection.move(state)
        # Also before its next request runs: `settle` takes what is watched to be readable.
        self._pool.rewatch(connection)
        return connection if state is ACTIVE else None

    def _on_lingering(self, connection: Connection) -> None:
        """Throw away what comes after our last word, so that no reset overtakes it."""
        if connection.wire.unsent:
            self._service.shut(connection)
            return
        try:
            data = connection.sock.recv(_RECEIVE_BODY_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        connection.linger_left -= len(data)
        if not data or connection.linger_left <= 0:
            self._service.close(connection, None)

    # -- time ---------------------------------------------------------------------------

    def _on_poke(self) -> None:
        pool = self._pool
        pool.poked()
        now = monotonic()
        if now >= pool.earliest and not pool.unswept:
            sweep(pool, self._service, self._handshakes, now)
        if self._drain.begun:
            for connection in self._drain.advance(now, self.close_ports):
                self._service.close(connection, pool.close_reason)
