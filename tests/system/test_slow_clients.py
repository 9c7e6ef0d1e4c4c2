"""Clients that are slow, silent or gone hold no thread: with one thread others are served."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from tests.system.client import Connection, build_request
from tests.system.conftest import Combination
from tests.system.harness import Server

pytestmark = pytest.mark.greenlets("gevent")

CLIENTS = 40
# A request behind a held thread would wait for seconds; this is only slack for a busy machine.
SOON_S = 1.5
BLOB = 4_000_000


@pytest.fixture(scope="module")
def web(combination: Combination) -> Iterator[Server]:
    """One worker with one thread."""
    with combination.server("behaviours:app", workers=1, threads=1) as server:
        yield server


@contextlib.contextmanager
def crowd(server: Server, data: bytes) -> Iterator[list[Connection]]:
    """Connections that have each sent this and then nothing."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(CLIENTS)]
        for connection in connections:
            if data:
                connection.send(data)
        yield connections


def assert_others_are_served(server: Server) -> None:
    """New and kept-alive clients get their answers at once."""
    started = time.monotonic()
    with server.connect() as connection:
        for _ in range(5):
            assert connection.get("/hello").body == b"hello\n"
    assert server.get("/hello").body == b"hello\n"
    assert time.monotonic() - started < SOON_S


def test_silent_connections(web: Server) -> None:
    """Connections that have sent nothing yet are served as soon as they do."""
    with crowd(web, b"") as connections:
        assert_others_are_served(web)
        for connection in connections:
            assert connection.get("/hello").body == b"hello\n"


def test_idle_kept_alive_connections(web: Server) -> None:
    """Kept-alive connections between requests hold nothing."""
    with crowd(web, build_request("GET", "/hello")) as connections:
        for connection in connections:
            assert connection.response().body == b"hello\n"
        assert_others_are_served(web)
        for connection in connections:
            assert connection.get("/hello").body == b"hello\n"


def test_slow_heads(web: Server) -> None:
    """Half a head waits in the poller, and is a whole request when the rest comes."""
    request = build_request("GET", "/hello")
    with crowd(web, request[:25]) as connections:
        assert_others_are_served(web)
        for connection in connections:
            connection.send(request[25:])
            assert connection.response().body == b"hello\n"


def test_slow_bodies(web: Server) -> None:
    """A body that is still coming holds no thread, be it small or large."""
    small = build_request("POST", "/echo", {"Content-Length": "10"}, b"12345")
    with crowd(web, small) as connections:
        assert_others_are_served(web)
        for connection in connections:
            connection.send(b"67890")
            assert connection.response().body == b"1234567890"
    large = build_request("POST", "/size", {"Content-Length": "200000"}, b"x" * 100_000)
    with crowd(web, large) as connections:
        assert_others_are_served(web)
        for connection in connections[:5]:
            connection.send(b"x" * 100_000)
            assert connection.response().body == b"200000"


def test_slow_readers(web: Server) -> None:
    """A response that its client does not take waits in the poller, and arrives whole later."""
    with crowd(web, build_request("GET", f"/blob?n={BLOB}")) as connections:
        assert_others_are_served(web)
        for connection in connections:
            assert connection.response().body == b"x" * BLOB


def test_slow_readers_of_a_file(web: Server, combination: Combination) -> None:
    """The same for files that the kernel sends."""
    path = combination.folder / "large.bin"
    path.write_bytes(b"f" * BLOB)
    with crowd(web, build_request("GET", f"/file?path={path}")) as connections:
        assert_others_are_served(web)
        for connection in connections[:10]:
            assert connection.response().body == b"f" * BLOB


def test_lingering_connections(web: Server) -> None:
    """Refused clients that neither read nor leave hold nothing."""
    with crowd(web, b"BAD\r\n\r\n"):
        assert_others_are_served(web)


def test_slow_head_is_given_up(serve_short: Server) -> None:
    """A head that does not come within --header-timeout gets 408, a silent client just the close."""
    with serve_short.connect() as slow, serve_short.connect() as silent:
        slow.send(b"GET /hello HTTP/1.1\r\nHos")
        response = slow.response()
        assert (response.status, response.header("Connection")) == (408, "close")
        slow.expect_close()
        silent.expect_close()


def test_slow_body_is_given_up(serve_short: Server) -> None:
    """A body that stops coming gets 408 after --body-timeout."""
    with serve_short.connect() as slow:
        slow.request("POST", "/echo", {"Content-Length": "10"}, b"12345")
        assert slow.response().status == 408
        slow.expect_close()


def test_idle_connection_is_closed_after_keep_alive(serve_short: Server) -> None:
    """A kept-alive connection ends, without a word, after --keep-alive seconds."""
    with serve_short.connect() as connection:
        assert connection.get("/hello").body == b"hello\n"
        started = time.monotonic()
        connection.expect_close()
        assert 0.5 < time.monotonic() - started < 5


@pytest.fixture(scope="module")
def serve_short(
    combination: Combination, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with short time limits."""
    other = combination.elsewhere(tmp_path_factory.mktemp("short"))
    limits = ("--header-timeout", "1", "--body-timeout", "1", "--keep-alive", "1")
    with other.server("behaviours:app", *limits) as server:
        yield server


def test_idle_connections_make_room_at_the_limit(
    combination: Combination, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """At --worker-connections the oldest idle connection is closed, and the new one is served.

    One thread: with more, the one that served the oldest may not yet have let go of it.
    """
    other = combination.elsewhere(tmp_path_factory.mktemp("few"))
    with (
        other.server("behaviours:app", "--worker-connections", "10", threads=1) as server,
        contextlib.ExitStack() as stack,
    ):
        idle = [stack.enter_context(server.connect()) for _ in range(10)]
        for connection in idle:
            assert connection.get("/hello").body == b"hello\n"
        for _ in range(5):
            assert server.get("/hello").body == b"hello\n"
        idle[0].expect_close()
        assert idle[-1].get("/hello").body == b"hello\n"
