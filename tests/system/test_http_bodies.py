"""Request bodies on the wire: lengths, chunks, Expect, large uploads, early ends."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.client import build_request, chunked, dribble
from tests.system.conftest import Combination
from tests.system.harness import Server

pytestmark = pytest.mark.greenlets("gevent", "eventlet")

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def web(combination: Combination) -> Iterator[Server]:
    """One server for the module, per parser and kind of socket."""
    with combination.server("behaviours:app", threads=2) as server:
        yield server


def pattern(size: int) -> bytes:
    """Bytes in which a lost or doubled block shows."""
    block = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(64))
    return (block * (size // len(block) + 1))[:size]


def resident_bytes(pid: int) -> int:
    """The memory a process holds now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


@pytest.mark.parametrize("size", [0, 1, 8191, 65_536, 65_537, MIB, 5 * MIB])
def test_body_with_length(web: Server, size: int) -> None:
    """The application reads exactly the bytes that were sent, of any size."""
    body = pattern(size)
    with web.connect() as connection:
        connection.request("POST", "/echo", body=body)
        assert connection.response().body == body
        assert connection.get("/hello").body == b"hello\n"


@pytest.mark.parametrize("piece", [1, 100, 8192, 300_000])
def test_body_in_chunks(web: Server, piece: int) -> None:
    """A chunked body is joined, whatever its pieces; extensions and trailers go unseen."""
    body = pattern(300 if piece == 1 else 600_000)
    pieces = [body[at : at + piece] for at in range(0, len(body), piece)]
    with web.connect() as connection:
        connection.request(
            "POST",
            "/echo",
            {"Transfer-Encoding": "chunked"},
            b"5;name=value\r\nfirst\r\n" + chunked(pieces, trailer=b"X-Sum: 1\r\n"),
        )
        assert connection.response().body == b"first" + body
        assert connection.get("/hello").body == b"hello\n"


def test_chunked_body_byte_by_byte(web: Server) -> None:
    """However a chunked body is cut, it is the same body."""
    with web.connect() as connection:
        body = chunked([b"abc", b"defgh"], trailer=b"T: 1\r\n")
        dribble(connection, build_request("POST", "/echo", {"Transfer-Encoding": "chunked"}, body))
        assert connection.response().body == b"abcdefgh"


@pytest.mark.parametrize("how", ["pieces", "readline", "readlines", "iterate", "mixed"])
def test_every_way_to_read(web: Server, how: str) -> None:
    """read, readline, readlines and iteration give the same bytes, on small and large bodies."""
    lines = b"".join(b"line %d\n" % number for number in range(20_000)) + b"no newline"
    for body in (b"one\ntwo\n", lines):
        with web.connect() as connection:
            connection.request("POST", f"/read_by?how={how}", body=body)
            assert connection.response().body == body


def test_expect_continue(web: Server) -> None:
    """A client that waits for 100 gets it, then its answer."""
    with web.connect() as connection:
        connection.request("POST", "/echo", {"Expect": "100-continue", "Content-Length": "4"})
        assert connection.response().status == 100
        connection.send(b"body")
        assert connection.response().body == b"body"
        assert connection.get("/hello").body == b"hello\n"


def test_expect_continue_with_chunks(web: Server) -> None:
    """The same for a chunked body."""
    with web.connect() as connection:
        fields = {"Expect": "100-continue", "Transfer-Encoding": "chunked"}
        connection.request("POST", "/echo", fields)
        assert connection.response().status == 100
        connection.send(chunked([b"bo", b"dy"]))
        assert connection.response().body == b"body"


def test_no_100_when_the_body_has_come(web: Server) -> None:
    """A client that did not wait is not told to go on."""
    with web.connect() as connection:
        connection.request("POST", "/echo", {"Expect": "100-continue"}, b"body")
        assert connection.response().body == b"body"


def test_no_100_for_http_1_0(web: Server) -> None:
    """An HTTP/1.0 client is never sent a 100 (RFC 9110 10.1.1)."""
    with web.connect() as connection:
        connection.request("POST", "/echo", {"Expect": "100-continue"}, b"body", minor=0)
        assert connection.response().body == b"body"


def test_unread_body_is_not_taken_for_a_request(web: Server) -> None:
    """What the application leaves unread is never parsed as the next request."""
    hidden = build_request("GET", "/hello")
    for size in (1, 100, 3000):
        with web.connect() as connection:
            connection.request("POST", "/ignore_body", body=hidden * size)
            response = connection.response()
            assert response.body == b"ignored\n"
            if response.header("Connection") == "close":
                connection.expect_close()
            else:
                connection.expect_silence()
                assert connection.get("/hello").body == b"hello\n"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_large_upload_does_not_fill_the_memory(web: Server, framing: str) -> None:
    """48 MiB go through a file: the worker's memory grows by far less."""
    [pid] = web.wait_workers(1)
    piece, count = pattern(MIB), 48
    with web.connect(timeout_s=30) as connection:
        before = resident_bytes(pid)
        if framing == "length":
            connection.request("POST", "/size", {"Content-Length": str(MIB * count)})
            for _ in range(count):
                connection.send(piece)
        else:
            connection.request("POST", "/size", {"Transfer-Encoding": "chunked"})
            for _ in range(count):
                connection.send(b"%x\r\n" % MIB + piece + b"\r\n")
            connection.send(b"0\r\n\r\n")
        assert connection.response().body == b"%d" % (MIB * count)
        assert resident_bytes(pid) - before < 16 * MIB


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_body_cut_short_never_reaches_the_application(
    web: Server, combination: Combination, framing: str
) -> None:
    """A body that ends early is not handed over as if it were whole."""
    before = combination.recorded()
    with web.connect() as connection:
        if framing == "length":
            connection.request("POST", "/echo", {"Content-Length": "100"}, b"only this")
        else:
            connection.request("POST", "/echo", {"Transfer-Encoding": "chunked"}, b"4\r\nonly\r\n")
        connection.sock.shutdown(socket.SHUT_WR)
        answer = connection.sock.recv(65536)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")

    assert combination.recorded() == before


def test_client_that_leaves_in_its_body_harms_nobody(web: Server) -> None:
    """Clients that vanish in the middle of an upload leave the server as it was."""
    for _ in range(10):
        connection = web.connect()
        connection.request("POST", "/echo", {"Content-Length": "100000"}, b"x" * 5000)
        connection.close()

    assert web.get("/hello").body == b"hello\n"


def test_upload_and_answer_larger_than_any_socket_buffer(web: Server) -> None:
    """A client that sends everything before it reads anything is served."""
    body = pattern(8 * MIB)

    with web.connect(timeout_s=30) as connection:
        connection.request("POST", "/echo", body=body)
        assert connection.response().body == body
