"""What must never reach an application: malformed, ambiguous and oversized requests.

Each gets one answer with the right status, `Connection: close` and a Date, then the end
of the connection.  The head's grammar has its own unit tests; here the whole way is
tested: that the answer arrives, that nothing more does, and that the application is left
out of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.system.client import Connection, build_request
from tests.system.conftest import Combination, Servers
from tests.system.harness import Server

pytestmark = pytest.mark.greenlets("gevent")

HOST = b"Host: server\r\n"

REFUSED: dict[str, tuple[int, bytes]] = {
    "bare LF": (400, b"GET /echo HTTP/1.1\nHost: server\n\n"),
    "bare CR": (400, b"GET /echo HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n"),
    "NUL": (400, b"GET /echo HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n"),
    "folded field": (400, b"GET /echo HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n"),
    "space before colon": (400, b"GET /echo HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n"),
    "no Host": (400, b"GET /echo HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, b"GET /echo HTTP/1.1\r\n" + HOST + b"Host: other\r\n\r\n"),
    "bad Host": (400, b"GET /echo HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "length and coding": (
        400,
        b"POST /echo HTTP/1.1\r\n" + HOST
        + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "two lengths": (
        400,
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ),
    "signed length": (400, b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: +3\r\n\r\nabc"),
    "coding in 1.0": (
        400, b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "unknown coding": (
        501, b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: zip, chunked\r\n\r\n",
    ),
    "unknown method": (501, b"BREW /echo HTTP/1.1\r\n" + HOST + b"\r\n"),
    "CONNECT": (501, b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n"),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "unknown version": (505, b"GET /echo HTTP/3.0\r\n" + HOST + b"\r\n"),
    "HTTP/0.9": (400, b"GET /echo\r\n\r\n"),
    "garbage": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    "unknown expectation": (417, b"GET /echo HTTP/1.1\r\n" + HOST + b"Expect: coffee\r\n\r\n"),
    "bad chunk size": (
        400,
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    ),
    "chunk without end": (
        400,
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    ),
    "long line": (414, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "endless line": (414, b"GET /" + b"a" * 100_000),
    "large field": (431, b"GET /echo HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 9000 + b"\r\n\r\n"),
    "many fields": (431, b"GET /echo HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 101 + b"\r\n"),
    "large body": (413, b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 1000001\r\n\r\n"),
    "large chunked body": (
        413,
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        b"f4241\r\n" + b"x" * 1_000_001 + b"\r\n0\r\n\r\n",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def web(combination: Combination) -> Iterator[Server]:
    """One server for the module, with a limit for bodies."""
    with combination.server("behaviours:app", "--limit-request-body", "1000000") as server:
        yield server


def read_refusal(connection: Connection, status: int) -> None:
    """The answer, then the end."""
    response = connection.response()
    assert response.status == status
    assert response.header("Connection") == "close"
    assert response.header("Date") is not None
    connection.expect_close()


def send_and_read_refusal(connection: Connection, data: bytes, status: int) -> None:
    """Send all of it, or what the server takes before it closes; the answer must arrive whole.

    Whoever goes on sending may find the connection reset, but only behind the answer.
    """
    try:
        connection.send(data)
    except (BrokenPipeError, ConnectionResetError):
        assert connection.response().status == status
        return
    assert connection.response().status == status
    with contextlib.suppress(ConnectionResetError):
        connection.expect_close()


@pytest.mark.parametrize("name", REFUSED)
def test_refused(web: Server, combination: Combination, name: str) -> None:
    """The right status, then the close; the application never sees the request."""
    status, request = REFUSED[name]
    before = combination.recorded()
    with web.connect() as connection:
        if len(request) > 200_000:
            send_and_read_refusal(connection, request, status)
        else:
            connection.send(request)
            read_refusal(connection, status)

    assert combination.recorded() == before
    assert web.get("/hello").body == b"hello\n"


@pytest.mark.parametrize("name", ["two lengths", "bad Host", "long line", "bad chunk size"])
def test_refused_after_a_good_request(web: Server, name: str) -> None:
    """A bad request behind a good one on the same connection: the good one is answered first."""
    status, request = REFUSED[name]
    with web.connect() as connection:
        connection.send(build_request("GET", "/hello") + request)
        assert connection.response().body == b"hello\n"
        read_refusal(connection, status)


def test_nothing_behind_a_refused_request_is_served(web: Server) -> None:
    """Bytes after a refused request are never taken for a request."""
    with web.connect() as connection:
        connection.send(REFUSED["two lengths"][1] + build_request("GET", "/hello") * 3)
        read_refusal(connection, 400)


def test_limits_are_exact(web: Server) -> None:
    """What is just within the limits is served."""
    with web.connect() as connection:
        connection.request("GET", "/hello?" + "a" * (8190 - len("GET /hello? HTTP/1.1\r\n")))
        assert connection.response().status == 200
        connection.request("GET", "/hello", [("X", "a")] * 99)
        assert connection.response().status == 200
        connection.request("POST", "/size", body=b"x" * 1_000_000)
        assert connection.response().body == b"1000000"


def test_too_large_is_said_before_the_body_is_sent(web: Server) -> None:
    """With Expect the client is told 413 at once, not invited to send."""
    with web.connect() as connection:
        connection.request("POST", "/echo", {"Expect": "100-continue", "Content-Length": "1000001"})
        read_refusal(connection, 413)


def test_answer_survives_a_client_that_goes_on_sending(web: Server) -> None:
    """The unread body is drained briefly: the answer is not lost to a reset."""
    with web.connect() as connection:
        connection.send(REFUSED["large body"][1])
        send_and_read_refusal(connection, b"x" * 1_000_000, 413)


def test_names_with_underscores_are_refused_when_that_is_wanted(serve: Servers) -> None:
    """By the setting of gunicorn's name: 400, also for a client whose fields are known."""
    server = serve("behaviours:app", "--header-map", "refuse")
    for _ in range(2):
        with server.connect() as connection:
            connection.request("GET", "/hello", {"X_User": "admin"})
            assert connection.response().status == 400
        with server.connect() as connection:
            connection.request("GET", "/hello", {"X-User": "admin"})
            assert connection.response().status == 200
