"""TLS with a socket's manners: every cut, every refusal, and clients that break the rules."""

from __future__ import annotations

import os
import random
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gthreadsrv.http.errors import PlainHttpError
from gthreadsrv.worker.handshake import TlsError
from gthreadsrv.worker.outbox import HIGH_WATER_BYTES
from gthreadsrv.worker.tls_stream import TlsStream
from gthreadsrv.worker.tls_wire import TlsWire
from gthreadsrv.wsgi.exchange import ClientGoneError
from tests.certificates import Authority
from tests.unit.worker.rig import drained, open_fds
from tests.unit.worker.tls_client import TlsClient

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


class Throttled:
    """A socket whose kernel takes as much as the test says of each send."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.recv, self.shutdown, self.fileno = sock.recv, sock.shutdown, sock.fileno
        self.takes: Iterator[int] | None = None

    def send(self, data: bytes) -> int:
        if self.takes is None:
            return self.sock.send(data)
        size = next(self.takes)
        if not size:
            raise BlockingIOError
        return self.sock.send(data[:size])


class Line:
    """A stream, its wire, and a client."""

    def __init__(self, authority: Authority, version: ssl.TLSVersion) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        # One write must not need many reads for its memory's sake.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.ours, self.sock = ours, Throttled(ours)
        self.stream = TlsStream(cast("Any", self.sock), authority.server())
        self.wire = TlsWire(cast("Any", self.sock), 5.0, self.stream)
        self.client = TlsClient(theirs, authority.client(version))

    def receive(self, size: int = 16384) -> bytes:
        return self.stream.receive(cast("Any", self.sock), size)[0]

    def pump(self) -> None:
        """One turn of the leader that finds nothing for the application."""
        with pytest.raises(BlockingIOError):
            self.receive()

    def shake(self, size: int = 1 << 20) -> None:
        self.client.shake(self.pump, size)
        assert self.stream.established
        self.stream.shaking = False

    def close(self) -> None:
        self.wire.close()
        self.ours.close()
        self.client.sock.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def line(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Line]:
    before = open_fds()
    line = Line(authority, request.param)
    yield line
    line.close()
    assert open_fds() == before


def test_a_silent_client_costs_nothing_of_openssl(line: Line) -> None:
    """Before the first byte there is nothing but a socket."""
    line.pump()
    assert not line.stream.begun
    assert not hasattr(line.stream, "_ssl")


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_handshake_and_a_message_may_come_in_packets_of_any_size(line: Line, size: int) -> None:
    """A byte at a time changes nothing."""
    line.shake(size)
    sealed = line.client.seal(b"hello")
    for start in range(0, len(sealed) - size, size):
        line.client.sock.sendall(sealed[start : start + size])
        line.pump()
    line.client.sock.sendall(sealed[(len(sealed) - 1) // size * size :])
    assert line.receive() == b"hello"


def test_bytes_one_at_a_time_cost_as_much_as_bytes(line: Line) -> None:
    """The work is linear: a record four times as long costs about four times as much."""
    line.shake()

    def cost_s(size: int) -> float:
        sealed = line.client.seal(bytes(size))
        began = time.process_time()
        for byte in sealed[:-1]:
            line.client.sock.sendall(bytes([byte]))
            line.pump()
        line.client.sock.sendall(sealed[-1:])
        assert line.receive() == bytes(size)
        return time.process_time() - began

    cost_s(1000)
    assert cost_s(16000) < 4 * cost_s(4000) * 3


def test_what_comes_with_the_end_of_the_handshake_is_found(line: Line) -> None:
    """Finished and the first request in one packet: the poller will not report the rest."""
    client = line.client
    while True:
        flight = client.step()
        try:
            client.tls.write(b"request")
            flight += client.outgoing.read()
            wrote = True
        except ssl.SSLError:
            wrote = False
        if flight:
            client.sock.sendall(flight)
            line.pump()
        client.take()
        if wrote:
            break
    line.stream.shaking = False
    assert line.receive() == b"request"
    line.pump()


def test_large_messages_leave_nothing_behind_in_openssl(line: Line) -> None:
    """All that one read has brought is given on, whatever the records' bounds."""
    line.shake()
    data = random.Random(3).randbytes(200_000)
    got = b""
    sealed = line.client.seal(data[:100_000]) + line.client.seal(data[100_000:])
    for start in range(0, len(sealed), 50_000):
        line.client.sock.sendall(sealed[start : start + 50_000])
        got += line.receive(1 << 20)
        assert not line.stream._incoming.pending
        assert not line.stream._ssl.pending()
    assert got == data


def test_a_farewell_behind_a_message_is_told_afterwards(line: Line) -> None:
    """The message first; then an end of stream that the poller reports as well."""
    line.shake()
    line.client.sock.sendall(line.client.seal(b"last words") + line.client.farewell())
    assert line.receive() == b"last words"
    assert line.ours.recv(1) == b"", "the kernel must tell of it"
    assert line.receive() == b""
    line.wire.send(b"answer")
    assert line.client.sock.recv(65536), "the client may still listen"


def test_an_end_without_a_farewell_is_an_end(line: Line) -> None:
    """Many clients leave so; what was cut short is known by its framing."""
    line.shake()
    line.client.sock.shutdown(socket.SHUT_WR)
    assert line.receive() == b""


def test_garbage_in_place_of_a_record_is_the_clients_fault(line: Line) -> None:
    """It is told by an alert."""
    line.shake()
    line.client.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(TlsError):
        line.receive()
    assert drained(line.client.sock)


def test_messages_of_tls_alone_end_a_connection(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key updates without end: some kilobytes, in portions that hold up nobody."""
    line.shake()

    class Never:
        def read(self, _size: int) -> bytes:
            while line.stream._incoming.pending:
                line.stream._incoming.read()
            raise ssl.SSLWantReadError

        def pending(self) -> int:
            return 0

    monkeypatch.setattr(line.stream, "_ssl", Never())
    line.client.sock.setblocking(False)
    read = 0
    with pytest.raises(TlsError, match="nothing but TLS's own messages"):
        for turn in range(100):
            line.client.sock.send(bytes(16384))
            before = read
            waiting = len(line.ours.recv(1 << 20, socket.MSG_PEEK))
            with pytest.raises(BlockingIOError):
                line.receive()
            read += waiting - _waiting(line.ours)
            assert read - before <= (4096 if turn else 16384)
    assert read <= 64 * 1024
    line.stream._speaks_tls = False


def _waiting(sock: socket.socket) -> int:
    try:
        return len(sock.recv(1 << 20, socket.MSG_PEEK))
    except BlockingIOError:
        return 0


def test_a_handshake_without_end_is_ended(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much OpenSSL would read."""
    line.client.sock.sendall(line.client.step()[:20])
    line.pump()

    class Never:
        def do_handshake(self) -> None:
            line.stream._incoming.read()
            raise ssl.SSLWantReadError

    monkeypatch.setattr(line.stream, "_ssl", Never())
    with pytest.raises(TlsError, match="too long"):
        for _ in range(100):
            line.client.sock.sendall(bytes(4096))
            with pytest.raises(BlockingIOError):
                line.receive()
    line.stream._speaks_tls = False


@pytest.mark.parametrize(
    ("first", "error"),
    [(b"GET / HTTP/1.1\r\n", PlainHttpError), (b"PRI * HTTP/2.0\r\n", PlainHttpError),
     (b"SSH-2.0-x\r\n", PlainHttpError), (b"\0\1\2\3", TlsError), (b"\xc3\x84", TlsError)],
)  # fmt: skip
def test_what_is_not_tls_is_known_by_its_first_byte(
    line: Line, first: bytes, error: type[Exception]
) -> None:
    """Letters are answered in letters."""
    line.client.sock.sendall(first)
    with pytest.raises(error):
        line.receive()
    if error is PlainHttpError:
        line.wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert drained(line.client.sock) == b"HTTP/1.1 400 Bad Request\r\n\r\n"
        assert line.wire.shut()
    assert not hasattr(line.stream, "_ssl")


def test_nothing_is_ever_sent_in_clear_once_a_handshake_has_begun(line: Line) -> None:
    """Nor encrypted before it has ended."""
    line.client.sock.sendall(line.client.step())
    line.pump()
    drained(line.client.sock)
    with pytest.raises(ClientGoneError):
        line.wire.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert drained(line.client.sock) == b""


def test_a_handshake_waits_for_room(line: Line) -> None:
    """Our part of it must have left before the client is waited for."""
    line.sock.takes = iter([0, 100, 0, *[1 << 20] * 9])
    line.client.sock.sendall(line.client.step())
    for _ in range(2):
        line.pump()
        assert line.stream.unsent
    line.pump()
    line.pump()
    assert not line.stream.unsent
    line.client.take()
    line.shake()


CUTS = st.lists(st.one_of(st.just(0), st.integers(1, 70_000)), max_size=40)
PIECES = st.lists(
    st.tuples(st.sampled_from(["send", "pair", "file", "flush"]), st.integers(1, 150_000)),
    min_size=1,
    max_size=8,
)
SOURCE = random.Random(1).randbytes(400_000)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "source"
    path.write_bytes(SOURCE)
    return path


@settings(max_examples=60, deadline=None)
@given(CUTS, PIECES)
def test_everything_arrives_in_order_whatever_the_kernel_takes(
    authority: Authority, source: Path, cuts: list[int], pieces: list[tuple[str, int]]
) -> None:
    """Bytes refused are offered again, encrypted once; files and memory are one stream."""
    line = Line(authority, ssl.TLSVersion.TLSv1_3)
    fd = os.open(source, os.O_RDONLY)
    try:
        line.shake()
        line.sock.takes = iter([*cuts, *[1 << 20] * 10_000])
        expected = got = b""
        for number, (kind, size) in enumerate(pieces):
            data = SOURCE[number : number + size]
            if kind == "send":
                line.wire.send(data)
            elif kind == "pair":
                line.wire.send_pair(b"head", data)
                data = b"head" + data
            elif kind == "file":
                line.wire.send_file(b"head", fd, number, size)
                data = b"head" + data
            else:
                line.wire.flush()
                data = b""
            expected += data
            got += line.client.received()
        while not line.wire.flush():
            got += line.client.received()
        got += line.client.received()
        assert got == expected
        assert not line.wire.unsent
        assert line.wire.shut()
        for _ in cuts:  # no room for the farewell, as long as the cuts last
            assert line.wire.shut()
        line.client.received()
        assert line.client.closed
    finally:
        os.close(fd)
        line.close()


def test_a_slow_client_costs_bounded_memory(line: Line) -> None:
    """The outbox is the plain connections' own; of what is encrypted one batch is kept."""
    line.shake()
    line.sock.takes = iter([0] * 1000)
    line.wire.send(bytes(100_000))
    for _ in range(20):
        line.wire.send(bytes(100_000))
    assert line.wire.outbox is not None
    assert line.wire.outbox._memory <= HIGH_WATER_BYTES + 100_000
    assert 64 * 1024 < len(line.stream._left) < 68 * 1024


def test_a_client_that_takes_no_answers_of_tls_is_given_up(line: Line) -> None:
    """What is said in reading waits for room, up to a bound."""
    line.shake()
    line.stream._left = bytes(70_000)
    line.sock.takes = iter([0] * 100)
    monkey = line.stream._outgoing
    monkey.write(b"an answer")
    line.client.send(b"x")
    with pytest.raises(TlsError, match="takes no answers"):
        line.receive()
    line.stream._left = b""


def test_the_end_of_a_whole_response_is_said(line: Line) -> None:
    """close_notify, then the end of the stream."""
    line.shake()
    line.wire.send(b"whole")
    assert line.wire.shut()
    assert line.client.received() == b"whole"
    assert line.client.closed
    assert line.client.sock.recv(1) == b""


def test_the_end_of_a_cut_response_is_not(line: Line) -> None:
    """A client that reads to the end of the stream must not take it for whole."""
    line.shake()
    line.wire.send(b"ha")
    line.wire.cut = True
    assert line.wire.shut()
    line.wire.close()
    assert line.client.received() == b"ha"
    assert not line.client.closed
    assert line.client.sock.recv(1) == b""


def test_a_farewell_that_finds_no_room_is_said_later(line: Line) -> None:
    """Else a client that was slow to the last would have to guess."""
    line.shake()
    line.sock.takes = iter([0, 10, 1 << 20, 1 << 20])
    assert line.wire.shut()
    assert line.wire.unsent
    assert line.wire.shut()
    assert line.wire.unsent
    assert line.wire.shut()
    assert not line.wire.unsent
    line.client.received()
    assert line.client.closed
    assert line.client.sock.recv(1) == b""


def test_closing_an_idle_connection_says_so_unless_the_client_has_gone(line: Line) -> None:
    """And what was left unsent says nothing."""
    line.shake()
    line.wire.close()
    line.client.received()
    assert line.client.closed


def test_closing_with_bytes_unsent_says_nothing(line: Line) -> None:
    """They were part of a response."""
    line.shake()
    line.sock.takes = iter([0] * 10)
    line.wire.send(b"never sent")
    line.wire.close()
    line.sock.takes = None
    assert drained(line.client.sock) == b""


def test_a_client_that_has_gone_is_known_by_the_next_send(line: Line) -> None:
    """As on a plain connection."""
    line.shake()
    line.client.sock.close()
    with pytest.raises(ClientGoneError):
        for _ in range(3):
            line.wire.send(b"x")
    assert line.wire.lost
    assert not line.wire.shut() or line.wire.unsent is False


def test_nothing_is_nothing(line: Line) -> None:
    """An empty send is no record."""
    line.shake()
    line.wire.send(b"")
    assert drained(line.client.sock) == b""
    line.wire.send(b"x")
    assert line.client.received() == b"x"
