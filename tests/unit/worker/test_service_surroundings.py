"""What a request brings to the places around it: log context, stderr, scoreboard, proxy."""

from __future__ import annotations

import io
import socket
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gthreadsrv.worker import service
from gthreadsrv.worker.connection import State
from tests.unit.worker.rig import GET, drained, get, hello, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from tests.unit.worker.rig import Rig

    MakeRig = Callable[..., Rig]


def test_the_request_id_is_bound_for_the_request_only(make_rig: MakeRig) -> None:
    """The application's log lines carry it; afterwards nothing does."""
    from structlog.contextvars import get_contextvars

    seen: list[dict[str, Any]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        seen.append(get_contextvars())
        if environ["PATH_INFO"] == "/bad":
            raise ValueError
        return hello(environ, start_response)

    rig = make_rig(app)
    for path in ("/", "/bad"):
        rig.exchange(get(path, "X-Request-ID: abc-1"))
        assert get_contextvars() == {}
    assert [one["request_id"] for one in seen] == ["abc-1", "abc-1"]


@pytest.mark.parametrize(("allowed", "counted"), [(("127.0.0.1",), 1), (("10.0.0.1",), 0)])
def test_the_proxys_queue_time_counts_when_the_proxy_is_trusted(
    make_rig: MakeRig, allowed: tuple[str, ...], counted: int
) -> None:
    """X-Request-Start of anybody else is not believed."""
    import time

    rig = make_rig(tcp=True, forwarded_allow_ips=allowed)
    client = rig.connect()
    client.sendall(get("/", "X-Request-Start: soon"))
    client.sendall(get("/", f"X-Request-Start: t={time.time() - 0.3:.3f}"))
    wait_until(lambda: rig.pump() or rig.responses() == 2, "the answers")
    queue = rig.fleet().proxy_queue

    assert sum(queue[1:]) == counted
    assert queue[0] == pytest.approx(0.3 if counted else 0.0, abs=0.15)


def test_wsgi_errors_is_the_present_stderr(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written there goes where sys.stderr points at that moment."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        environ["wsgi.errors"].write("one\n")
        environ["wsgi.errors"].writelines(["two\n"])
        environ["wsgi.errors"].flush()
        return hello(environ, start_response)

    rig = make_rig(app)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    rig.exchange(GET)

    assert stream.getvalue() == "one\ntwo\n"


def test_entering_a_thread_tells_the_scoreboard_its_kernel_id(make_rig: MakeRig) -> None:
    """So that the kernel's numbers of that thread can be found."""
    rig = make_rig()
    rig.service.enter_thread()

    assert rig.board.slot(0).native_ids() == [threading.get_native_id()]


def test_a_reset_instead_of_the_last_ack_is_survived(make_rig: MakeRig) -> None:
    """A client that resets while we linger ends the connection quietly."""
    rig = make_rig(tcp=True)
    client = rig.connect()
    client.sendall(b"BAD\r\n\r\n")
    wait_until(lambda: rig.pump() or rig.responses(), "the refusal")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    wait_until(lambda: rig.pump() or not rig.pool.connections, "the end")

    assert rig.closed() == {"error": 1}


class AccessRecorder:
    """Stands in for the access log."""

    def __init__(self) -> None:
        self.lines: list[SimpleNamespace] = []

    def log(
        self, client: str, head: Any, response: Any, duration_s: float, started_wall: float,
        request_id: str, trace_id: str, environ: Any,
    ) -> None:  # fmt: skip
        self.lines.append(
            SimpleNamespace(
                client=client, head=head, response=response, sent=response.sent, request_id=request_id,
                environ=environ,
            )
        )  # fmt: skip


def test_every_response_is_in_the_access_log(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusals and slow ones too, each once, with what the client was sent."""
    access = AccessRecorder()
    monkeypatch.setattr(service, "access_log", lambda: access)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("201 Created", [("X-Kind", "big")])
        return [bytes(2 << 20)]

    rig = make_rig(app)
    client = rig.connect()
    rig.exchange(get("/big?a", "X-Request-ID: r1", "User-Agent: probe"), client)
    assert access.lines == []
    while rig.only().state is State.WRITING:
        drained(client)
        rig.pump()
    drained(client)
    rig.exchange(b"GET / HTTP/1.1\r\n\r\n", client)

    whole, refused = access.lines
    assert (whole.head.method, whole.head.target, whole.response.code) == ("GET", "/big?a", 201)
    assert (whole.sent, whole.request_id) == (2 << 20, "r1")
    assert (b"User-Agent", b"probe") in whole.head.headers
    assert whole.response.headers == [("X-Kind", "big")]
    assert whole.environ["PATH_INFO"] == "/big"
    assert (refused.head.method, refused.response.code) == ("", 400)
    assert refused.sent == len(b"400 Bad Request\n")


@pytest.mark.parametrize("body", [b"", bytes(2 << 20)])
def test_a_trusted_proxy_that_contradicts_itself_is_refused(make_rig: MakeRig, body: bytes) -> None:
    """400 and a close, before the application; the body is let go, and the thread is free."""
    asked: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        asked.append(environ["PATH_INFO"])
        return hello(environ, start_response)

    rig = make_rig(app)
    fields = ("X-Forwarded-Proto: https", "X-Forwarded-Ssl: off", f"Content-Length: {len(body)}")
    client = rig.connect()
    stream = memoryview(get("/bad", *fields) + body + GET)
    got = b""
    client.setblocking(False)
    while stream:
        try:
            stream = stream[client.send(stream) :]
        except BlockingIOError:
            rig.pump()
    rig.pump()
    got = drained(client)

    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.count(b"HTTP/1.1") == 1
    assert rig.errors() == {"bad_request": 1}
    assert rig.statuses() == {400: 1}
    assert asked == []
    assert b" 200 " in rig.exchange(get("/good"))
    assert asked == ["/good"]
    assert not rig.service.row.since


@pytest.mark.parametrize(
    ("left", "named"), [("203.0.113.9", "203.0.113.9"), (None, ""), (b"x", ""), (1, "")]
)
def test_the_access_log_names_the_client_that_the_application_saw(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch, left: object, named: str
) -> None:
    """As a middleware left REMOTE_ADDR, if that is a text; else the peer."""
    access = AccessRecorder()
    monkeypatch.setattr(service, "access_log", lambda: access)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        environ["REMOTE_ADDR"] = left
        return hello(environ, start_response)

    make_rig(app).exchange(GET)
    (line,) = access.lines
    assert line.client == named
