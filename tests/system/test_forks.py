"""Applications that fork in a request: the child is theirs, the server's things are not its."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from tests.system.conftest import Servers


def test_terminating_a_child_of_the_application_ends_the_child_alone(serve: Servers) -> None:
    """TERM to a forked child has the system's meaning for it, and none for its worker."""
    server = serve("offspring:app", workers=1)
    worker = server.get("/").text

    assert server.get("/terminate").text == f"code {-signal.SIGTERM}"

    assert [server.get("/").text for _ in range(20)] == [worker] * 20
    assert not [line for line in server.lines if "worker left" in repr(line)]


@pytest.mark.parametrize(("path", "code"), [("/leave", 7), ("/raise", 1), ("/return", 0)])
def test_child_that_comes_back_from_the_application_ends(
    serve: Servers, path: str, code: int
) -> None:
    """A forked child that leaves the application's code neither answers nor serves: it ends."""
    server = serve("offspring:app", workers=1, allow_errors=True)
    with server.connect() as connection:
        assert connection.get(path).text == f"code {code}"
        # The strict client would take a second answer for this request's.
        assert connection.get("/").text.isdigit()


def test_child_that_lives_on_does_not_keep_connections_open(serve: Servers) -> None:
    """A response that ends with its connection ends, though a child was forked meanwhile."""
    server = serve("offspring:app", workers=1)
    child = 0
    try:
        with server.connect() as connection:
            connection.sock.settimeout(5)
            connection.send(b"GET /keep HTTP/1.0\r\n\r\n")
            received = b""
            while data := connection.sock.recv(4096):
                received += data
                if b"\r\n\r\n" in received and not child:
                    with contextlib.suppress(ValueError):
                        child = int(received.partition(b"\r\n\r\n")[2])
        assert child == int(received.partition(b"\r\n\r\n")[2])
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
