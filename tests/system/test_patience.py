"""Settings of 0 for the worker's times, over real sockets."""

from __future__ import annotations

from tests.system.conftest import Servers


def test_without_keep_alive_each_response_ends_its_connection(serve: Servers) -> None:
    """--keep-alive 0: the response says close, and the connection closes."""
    server = serve("behaviours:app", "--keep-alive", "0")
    with server.connect() as connection:
        response = connection.get("/hello")
        assert (response.status, response.header("Connection")) == (200, "close")
        connection.expect_close()


def test_no_limit_on_heads_and_bodies_is_no_timeout(serve: Servers) -> None:
    """--header-timeout 0 and --body-timeout 0: a request in two pieces is served."""
    server = serve("behaviours:app", "--header-timeout", "0", "--body-timeout", "0")
    with server.connect() as connection:
        connection.send(b"POST /echo HTTP/1.1\r\nHost: a\r\n")
        with server.connect() as other:
            assert other.get("/hello").status == 200
        connection.send(b"Content-Length: 2\r\n\r\no")
        with server.connect() as other:
            assert other.get("/hello").status == 200
        connection.send(b"k")
        assert connection.response().body == b"ok"
