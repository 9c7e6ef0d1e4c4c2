"""The benchmark's clients: what wrk is told, and what is read from it."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.bench.peers.load import (
    BROWSER,
    LoadError,
    Placed,
    Stream,
    content_length,
    fetch,
    outcome,
    wrk_command,
)

LINE = (
    '{"requests": 300, "duration_us": 1500000, "bytes": 42000, '
    '"p50_us": 1250, "p99_us": 9000, "failures": 2}'
)


def test_wrk_is_read() -> None:
    """The line of JSON among wrk's own lines gives seconds and milliseconds."""
    seen = outcome(f"Running 1s test\n  1 threads\n{LINE}\n")

    assert (seen.requests, seen.duration_s, seen.received_bytes) == (300, 1.5, 42000)
    assert (seen.p50_ms, seen.p99_ms, seen.failures) == (1.25, 9.0, 2)


def test_wrk_that_failed_is_quoted() -> None:
    """Without that line, the last thing wrk said is the error."""
    with pytest.raises(LoadError, match="wrk: Connection refused"):
        outcome("Running 1s test\nConnection refused\n")
    with pytest.raises(LoadError, match="no output"):
        outcome("\n")


def test_wrk_runs_on_its_core_with_its_request() -> None:
    """Core, connections, headers, method and size of the body are all on the command line."""
    stream = Stream("/upload", 4, method="POST", body_bytes=1024)
    argv = wrk_command(Placed(stream, core=1, port=8123), seconds=3)

    assert argv[:4] == ["taskset", "-c", "1", "wrk"]
    assert {"-c4", "-d3s", "http://127.0.0.1:8123/upload"} <= set(argv)
    assert argv.count("-H") == len(BROWSER)
    assert argv[-3:] == ["--", "POST", "1024"]


def test_content_length_is_found_whatever_its_case() -> None:
    """The announced length is read; none is 0."""
    assert content_length(b"HTTP/1.1 200 OK\r\ncOnTent-Length: 14\r\nX: 1") == 14
    assert content_length(b"HTTP/1.1 200 OK\r\nX: 1") == 0


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Len", b"gth: 5\r\n\r\nhe", b"llo"], b"hello"),
        ([b"HTTP/1.1 200 OK\r\n\r\n"], b""),
    ],
)
def test_a_response_is_read_in_pieces(pieces: list[bytes], body: bytes) -> None:
    """However the response is cut, its whole body comes back."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        theirs.recv(4096)
        for piece in pieces:
            theirs.sendall(piece)

    with ours, theirs:
        server = threading.Thread(target=serve)
        server.start()
        assert fetch(ours) == body
        server.join()


@pytest.mark.parametrize("sent", [b"HTTP/1.1 503 Busy\r\n\r\n", b"HTTP/1.1 200"])
def test_what_is_no_response_is_an_error(sent: bytes) -> None:
    """Another status, or a connection that ends too early, counts as a failure."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(LoadError):
            fetch(ours)
