"""A worker's parts put together inside the test: stepped by hand, or with real threads.

`Rig` runs one unstarted pool thread on the test's own thread: its poller never waits but says
that nothing is left to do, and its clock moves only when a test moves it.  `Live` starts real
pool threads.  Both serve unix sockets, on which what one end sends the other can read at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from gthreadsrv.http.limits import Limits
from gthreadsrv.http.parser import make_parser
from gthreadsrv.http.recall import Recall, RecallingParser
from gthreadsrv.http.response import HeadEncoder
from gthreadsrv.net.address import TcpAddress, UnixAddress
from gthreadsrv.net.listeners import Listener, bind
from gthreadsrv.net.peers import TrustedPeers
from gthreadsrv.settings import Settings
from gthreadsrv.worker.drain import Drain
from gthreadsrv.worker.hooked import HookedService
from gthreadsrv.worker.intake import Intake
from gthreadsrv.worker.patience import patience_of
from gthreadsrv.worker.pool import Pool
from gthreadsrv.worker.ports import Port
from gthreadsrv.worker.preface import VERSIONS, PrefacedPort
from gthreadsrv.worker.service import Service
from gthreadsrv.worker.thread import PoolThread
from gthreadsrv.worker.tls_wire import securing
from gthreadsrv.wsgi.fields import FieldTrust
from gthreadsrv_metrics import labels
from gthreadsrv_metrics.reading import FleetReading, read_fleet
from gthreadsrv_metrics.scoreboard import Scoreboard

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from gthreadsrv.hooks import WorkerHooks
    from gthreadsrv.worker.connection import Connection
    from gthreadsrv.worker.poller import Poller

DEADLINE_S = 10.0
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def wait_until(predicate: Callable[[], object], what: str = "condition") -> None:
    """Wait until the predicate holds; fail loudly when it never does."""
    deadline = time.monotonic() + DEADLINE_S
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {DEADLINE_S} s")
        time.sleep(0.001)


def open_fds() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """The shortest application."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Give back method, path and body."""
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return [environ["REQUEST_METHOD"].encode(), environ["PATH_INFO"].encode("latin-1"), b"|", body]


class Clock:
    """Stands in for time.monotonic."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Log:
    """Stands in for the bound logger; keeps (level, event, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def events(self, level: str) -> list[str]:
        return [event for at, event, _ in self.lines if at == level]

    def fields(self, event: str) -> dict[str, Any]:
        """Of the last line about ``event``."""
        return [fields for _, name, fields in self.lines if name == event][-1]

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.lines.append(("error", event, fields))

    def critical(self, event: str, **fields: Any) -> None:
        self.lines.append(("critical", event, fields))


class QuietError(Exception):
    """Nothing is reported: a real poller would wait now."""


class StepPoller:
    """A real poller that raises QuietError where it would wait."""

    def __init__(self, inner: Poller) -> None:
        self._inner = inner
        self.add = inner.add
        self.remove = inner.remove
        self.close = inner.close
        self.polls = 0
        self.timeout_s: float | None = None
        """How long the last poll would have waited."""

    def poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
        self.polls += 1
        assert self.polls < 5000, "the leader spins"
        self.timeout_s = timeout_s
        events = self._inner.poll(0)
        if not events:
            raise QuietError
        return events


class Base:
    """What both rigs share."""

    def __init__(
        self,
        app: WSGIApplication,
        path: Path | None,
        *,
        threads: int,
        whole: Callable[[], object] | bool = False,
        max_requests: int = 0,
        limits: Limits | None = None,
        parser: str = "h11",
        tls: ssl.SSLContext | None = None,
        hooks: WorkerHooks | None = None,
        **settings: Any,
    ) -> None:
        """Listen at ``path``, or on loopback when there is none."""
        self.settings = Settings(threads=threads, workers=1, **settings)
        self.board = Scoreboard(1, threads, ["rig"])
        self.board.master.lease(0, os.getpid(), 1, time.monotonic(), threads=threads)
        self.log = Log()
        self.titles: list[str] = []
        self.shared = False
        """Whether another master's workers serve the queue too."""
        self.pool = Pool(self.board.slot(0), max_requests)
        address = TcpAddress("127.0.0.1", 0) if path is None else UnixAddress(str(path))
        self.listener: Listener = bind([address], 128)[0]
        trusted = TrustedPeers(self.settings.forwarded_allow_ips)
        fields = FieldTrust(client=self.settings.forwarded_client)
        usual: dict[str, Any] = {
            "multithread": threads > 1,
            "multiprocess": False,
            "fields": fields,
            "secure": tls and securing(tls, patience_of(self.settings).write_s),
        }
        if self.settings.proxy_protocol == "off":
            self.port = Port(self.listener, trusted, **usual)
        else:
            self.port = PrefacedPort(
                self.listener,
                trusted,
                proxies=TrustedPeers(self.settings.proxy_allow_ips),
                versions=VERSIONS[self.settings.proxy_protocol],
                pool=self.pool,
                patience=patience_of(self.settings),
                **usual,
            )
        self.drain = Drain(
            self.pool,
            [self.port],
            patience_of(self.settings).idle_s,
            self.titles.append,
            whole=lambda: bool(whole() if callable(whole) else whole),
            shut_ways_in=self._shut,
        )
        self.limits = limits or Limits(8190, 100, 8190, self.settings.limit_request_body)
        encoder = HeadEncoder("rig")
        self.threads: list[PoolThread] = []
        self.intakes: list[Intake] = []
        self.services: list[Service] = []
        for index in range(threads):
            own = (self.pool, self.board.thread(0, index), self.settings, encoder)
            log = cast("Any", self.log)
            service = (
                Service(app, *own, log) if hooks is None else HookedService(hooks, app, *own, log)
            )
            intake = Intake(
                self.pool,
                self.settings,
                self.limits,
                {self.port.fd: self.port},
                RecallingParser(make_parser(parser, self.limits), Recall()),
                service,
                self.drain,
            )
            self.services.append(service)
            self.intakes.append(intake)
            self.threads.append(PoolThread(f"rig-{index}", self.pool, intake, service))
        self.clients: list[socket.socket] = []
        self.pool.paused = True

    def _shut(self) -> bool:
        self.titles.append("shut")
        return not self.shared

    def connect(self) -> socket.socket:
        """A client's connection, not accepted yet."""
        address = self.listener.sock.getsockname()
        client = socket.socket(self.listener.sock.family)
        client.settimeout(DEADLINE_S)
        client.connect(address)
        self.clients.append(client)
        return client

    def fleet(self) -> FleetReading:
        return read_fleet(self.board, time.monotonic())

    def responses(self) -> float:
        """How many responses have been counted."""
        return sum(sum(histogram[1:]) for histogram in self.fleet().durations.values())

    def statuses(self) -> dict[int, float]:
        """Responses by status code."""
        found: dict[int, float] = {}
        for key, histogram in self.fleet().durations.items():
            code = (key - 1) % 1000
            found[code] = found.get(code, 0) + sum(histogram[1:])
        return found

    def closed(self) -> dict[str, float]:
        """Closed connections by reason, the zeros left out."""
        return _named(labels.CLOSE_REASONS, self.fleet().closed)

    def errors(self) -> dict[str, float]:
        """Request errors by reason, the zeros left out."""
        return _named(labels.ERROR_REASONS, self.fleet().errors)

    def release(self) -> None:
        """Give back sockets and descriptors."""
        for client in self.clients:
            client.close()
        for connection in list(self.pool.connections.values()):
            connection.wire.close()
            if connection.upload is not None:
                connection.upload.discard()
            connection.sock.close()
        self.listener.unlink()
        self.listener.close()
        self.pool.close()


def _named(names: tuple[str, ...], counts: list[float]) -> dict[str, float]:
    return {name: count for name, count in zip(names, counts, strict=True) if count}


class Rig(Base):
    """One pool thread, stepped by the test."""

    def __init__(
        self, app: WSGIApplication, path: Path | None, clock: Clock, **kwargs: Any
    ) -> None:
        super().__init__(app, path, threads=kwargs.pop("threads", 1), **kwargs)
        self.clock = clock
        self.poller = StepPoller(self.pool.poller)
        self.pool.poller = cast("Any", self.poller)
        self.thread = self.threads[0]
        self.intake = self.intakes[0]
        self.service = self.services[0]
        assert self.pool.enlist(self.thread)

    def pump(self) -> bool:
        """Do all there is to do now; True when the pool has ended."""
        self.poller.polls = 0
        try:
            ended = self.thread._lead()
        except QuietError:
            return False
        assert ended, "the only thread lost the lead"
        return True

    def exchange(self, data: bytes, client: socket.socket | None = None) -> bytes:
        """Send ``data`` on a connection and return what has come back after it was handled."""
        client = client or self.connect()
        client.sendall(data)
        self.pump()
        return drained(client)

    def only(self) -> Connection:
        """The one connection there is."""
        (connection,) = self.pool.connections.values()
        return connection


class Live(Base):
    """Real pool threads on the real clock."""

    def start(self) -> None:
        for thread in self.threads:
            thread.start()
        wait_until(
            lambda: len(self.pool.idle) == len(self.threads) - 1 and self.pool.leader is not None,
            "one thread leads and the others are parked",
        )

    def end(self) -> None:
        """Stop the pool and wait for every thread."""
        self.pool.stop()
        self.pool.poke()
        for thread in self.threads:
            assert thread.join(DEADLINE_S), "a pool thread did not end"


def drained(client: socket.socket) -> bytes:
    """All bytes that have arrived, without waiting for more; the end of stream adds nothing."""
    pieces = []
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while data := client.recv(1 << 20):
            pieces.append(data)
    client.settimeout(DEADLINE_S)
    return b"".join(pieces)


def at_end(client: socket.socket) -> bool:
    """Whether the server has shut its side, everything before that having been read."""
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    finally:
        client.settimeout(DEADLINE_S)


def read_response(client: socket.socket) -> tuple[int, bytes]:
    """Wait for one response with Content-Length; its status and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(client)
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    length = int(fields[b"content-length"])
    while len(body) < length:
        body += _more(client)
    assert len(body) == length, "bytes of another response"
    return int(head.split(b" ", 2)[1]), body


def _more(client: socket.socket) -> bytes:
    data = client.recv(65536)
    if not data:
        raise AssertionError("the server closed in the middle of a response")
    return data


@contextlib.contextmanager
def running(live: Live) -> Iterator[Live]:
    """Run a live pool; its threads end with the block."""
    live.start()
    try:
        yield live
    finally:
        live.end()
        live.release()


class Gate:
    """An application whose requests wait inside until the test lets them out, one path each."""

    def __init__(self) -> None:
        self.entered: dict[str, threading.Event] = {}
        self.leave: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def event(self, table: dict[str, threading.Event], path: str) -> threading.Event:
        with self._lock:
            return table.setdefault(path, threading.Event())

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/hold"):
            self.event(self.entered, path).set()
            assert self.event(self.leave, path).wait(DEADLINE_S)
        start_response("200 OK", [])
        return [path.encode()]

    def wait_inside(self, path: str) -> None:
        assert self.event(self.entered, path).wait(DEADLINE_S), f"{path} never reached the app"

    def let_out(self, path: str) -> None:
        self.event(self.leave, path).set()


def get(path: str, *fields: str) -> bytes:
    """A GET request as bytes."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *fields, "", ""]).encode("latin-1")


def no_exit(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Keep a bug in a pool thread from ending the test process; it is in the list instead."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes
