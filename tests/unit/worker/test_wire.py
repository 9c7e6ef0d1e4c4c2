"""A connection's way out with readers of every speed."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gthreadsrv.worker import outbox as outbox_module
from gthreadsrv.worker import spool
from gthreadsrv.worker import wire as wire_module
from gthreadsrv.worker.interrupt import RequestTimeoutError
from gthreadsrv.worker.outbox import HIGH_WATER_BYTES
from gthreadsrv.worker.poller import wait_writable
from gthreadsrv.worker.wire import Wire
from gthreadsrv.wsgi.exchange import ClientGoneError
from tests.unit.worker.rig import DEADLINE_S, drained, open_fds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SMALL_FILE = 64 * 1024


class Line:
    """A wire and its client's end."""

    def __init__(self, timeout_s: float = DEADLINE_S) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.wire = Wire(self.ours, timeout_s)

    def clog(self) -> int:
        """Fill the way to the client; the number of bytes that went in."""
        sent = 0
        try:
            while True:
                sent += self.ours.send(bytes(65536))
        except BlockingIOError:
            return sent

    def take_all(self) -> bytes:
        """Read and flush in turns until nothing is left."""
        got = drained(self.theirs)
        while not self.wire.flush():
            got += drained(self.theirs)
        return got + drained(self.theirs)

    def close(self) -> None:
        self.wire.close()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def line() -> Iterator[Line]:
    before = open_fds()
    line = Line()
    yield line
    line.close()
    assert open_fds() == before


class Stingy:
    """A socket whose kernel takes as many bytes of each call as the test says."""

    def __init__(self, takes: list[int]) -> None:
        self.takes = takes
        self.got = b""
        self.calls = 0

    def _take(self, data: bytes) -> int:
        self.calls += 1
        count = min(self.takes.pop(0) if self.takes else len(data), len(data))
        if not count and data:
            raise BlockingIOError
        self.got += data[:count]
        return count

    def send(self, data: bytes | memoryview, _flags: int = 0) -> int:
        return self._take(bytes(data))

    def sendmsg(self, buffers: tuple[bytes, ...]) -> int:
        return self._take(b"".join(buffers))


@pytest.mark.parametrize("take", range(12))
def test_a_pair_may_be_taken_up_to_any_byte(take: int) -> None:
    """The rest of the first, all of the second, or part of it: nothing twice, nothing lost."""
    sock = Stingy([take])
    wire = Wire(cast("Any", sock), 1.0)
    wire.send_pair(b"headhead", b"body")
    assert sock.got == b"headheadbody"[:take]
    assert (wire.outbox is None) == (take >= 12)

    assert wire.flush()
    assert sock.got == b"headheadbody"
    assert wire.outbox is None


@pytest.mark.parametrize("take", range(5))
def test_a_send_may_be_taken_up_to_any_byte(take: int) -> None:
    """What the kernel does not take is kept."""
    sock = Stingy([take])
    wire = Wire(cast("Any", sock), 1.0)
    wire.send(b"abcd")
    assert sock.got == b"abcd"[:take]
    wire.send(b"efgh")

    assert wire.flush()
    assert sock.got == b"abcdefgh"


def test_an_interruption_sends_nothing_twice() -> None:
    """It comes out of the system call that has sent: the rest of a cut response stays unsent."""

    class Interrupted(Stingy):
        def send(self, data: bytes | memoryview, _flags: int = 0) -> int:
            taken = super().send(data)
            if self.calls == 2:
                raise RequestTimeoutError
            return taken

    sock = Interrupted([2])
    wire = Wire(cast("Any", sock), 1.0)
    wire.send(b"abcd")
    with pytest.raises(RequestTimeoutError):
        wire.send(b"efgh")

    assert wire.flush()
    assert sock.got == b"abcd"


def test_a_small_response_is_one_system_call() -> None:
    """Nothing is flushed, polled or queued when the kernel takes it."""
    sock = Stingy([])
    wire = Wire(cast("Any", sock), 1.0)
    wire.send(b"head and body")
    wire.send_pair(b"head", b"body")

    assert sock.calls == 2
    assert wire.outbox is None


@given(
    st.lists(st.integers(0, 7), max_size=60),
    st.lists(st.one_of(st.binary(max_size=20), st.tuples(st.binary(), st.binary())), max_size=12),
)
@settings(deadline=None)
def test_any_reader_gets_every_byte_once_and_in_order(
    takes: list[int], pieces: list[bytes | tuple[bytes, bytes]]
) -> None:
    """Whatever the kernel takes of each call, zero bytes included."""
    sock = Stingy(takes)
    wire = Wire(cast("Any", sock), 1.0)
    expected = b""
    for piece in pieces:
        if isinstance(piece, tuple):
            wire.send_pair(*piece)
            expected += piece[0] + piece[1]
        else:
            wire.send(piece)
            expected += piece
    while not wire.flush():
        pass

    assert sock.got == expected
    assert wire.outbox is None


def test_a_slow_reader_costs_bounded_memory_and_no_waiting(line: Line) -> None:
    """Ten megabytes are taken off the application's hands at once."""
    fds = open_fds()
    pieces = [bytes([number % 251]) * 10_000 for number in range(1000)]
    for piece in pieces:
        line.wire.send(piece)
    assert line.wire.outbox is not None
    assert line.wire.outbox._memory <= HIGH_WATER_BYTES + 10_000
    assert open_fds() == fds + 2

    assert line.take_all() == b"".join(pieces)
    assert open_fds() == fds
    assert line.wire.outbox is None


def test_a_reader_that_catches_up_gets_the_next_piece_directly(line: Line) -> None:
    """The outbox goes once it is empty, also in the middle of a response."""
    line.clog()
    line.wire.send(b"a" * 10)
    assert line.wire.outbox is not None
    drained(line.theirs)
    line.wire.send(b"b" * 10)

    assert line.wire.outbox is None
    assert drained(line.theirs) == b"a" * 10 + b"b" * 10


def test_a_pair_behind_an_outbox_keeps_its_order(line: Line) -> None:
    """Queued, or sent when the first of them empties the outbox."""
    filler = line.clog()
    line.wire.send(b"0")
    line.wire.send_pair(b"1", b"2")
    got = drained(line.theirs)
    line.wire.send_pair(b"3", b"4")
    got += line.take_all()

    assert got[filler:] == b"01234"


@pytest.mark.parametrize("size", [0, 1, SMALL_FILE, SMALL_FILE + 1, 3 << 20])
@pytest.mark.parametrize("clogged", [False, True])
def test_a_file_follows_its_head(line: Line, tmp_path: Path, size: int, *, clogged: bool) -> None:
    """Small ones by a read, large ones by the kernel, behind an outbox or not."""
    content = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(b"skipped" + content + b"beyond")
    filler = 0
    if clogged:
        filler = line.clog()
        line.wire.send(b"before ")
    with path.open("rb") as file:
        line.wire.send_file(b"head", file.fileno(), 7, size)

    got = line.take_all()[filler:]
    assert got == (b"before " if clogged else b"") + b"head" + content


@pytest.mark.parametrize("take", [0, 2])
def test_a_head_that_is_taken_in_part_stays_before_its_file(tmp_path: Path, take: int) -> None:
    """The file waits in the outbox behind the rest of the head."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    path = tmp_path / "file"
    path.write_bytes(b"f" * 100_000)

    class Partly(socket.socket):
        """Takes part of the first send."""

        def send(self, data: Any, flags: int = 0) -> int:
            nonlocal take
            if take >= 0:
                count, take = take, -1
                if not count:
                    raise BlockingIOError
                data = data[:count]
            return super().send(data, flags)

    sock = Partly(fileno=ours.detach())
    sock.setblocking(False)
    wire = Wire(sock, 1.0)
    with path.open("rb") as file:
        wire.send_file(b"head", file.fileno(), 0, 100_000)
    got = b""
    while not wire.flush():
        got += drained(theirs)
    got += drained(theirs)

    assert got == b"head" + b"f" * 100_000
    sock.close()
    theirs.close()


def test_bytes_after_a_file_stay_after_it(line: Line, tmp_path: Path) -> None:
    """An end of a response, or the next one, never overtakes."""
    path = tmp_path / "file"
    path.write_bytes(b"f" * (2 << 20))
    with path.open("rb") as file:
        line.wire.send_file(b"h", file.fileno(), 0, 2 << 20)
    line.wire.send(b"t" * 10)

    assert line.take_all() == b"h" + b"f" * (2 << 20) + b"t" * 10


@pytest.mark.parametrize("size", [1000, 200_000])
def test_a_file_that_became_shorter_cuts_the_connection(
    line: Line, tmp_path: Path, size: int
) -> None:
    """What was promised cannot be made up."""
    path = tmp_path / "file"
    path.write_bytes(bytes(size // 2))
    with path.open("rb") as file:
        with pytest.raises(ClientGoneError, match="shorter"):
            line.wire.send_file(b"head", file.fileno(), 0, size)
            line.take_all()


SENDS: list[Callable[[Wire], None]] = [
    lambda wire: wire.send(b"x"),
    lambda wire: wire.send_pair(b"x", b"y"),
    lambda wire: wire.send_file(b"x", 0, 0, 1 << 20),
]


@pytest.mark.parametrize("send", SENDS, ids=["send", "pair", "file"])
@pytest.mark.parametrize("clogged", [False, True])
def test_a_client_that_left_is_an_error_of_its_own(
    line: Line, send: Callable[[Wire], None], *, clogged: bool
) -> None:
    """Not the application's ConnectionError, and not an OSError of its disk."""
    if clogged:
        line.clog()
        line.wire.send(b"x")
    line.theirs.close()
    with pytest.raises(ClientGoneError):
        send(line.wire)


def spilled(wire: Wire) -> int:
    """How much of a response has gone to the file."""
    return wire.outbox._spill_end if wire.outbox is not None else 0


@pytest.mark.parametrize("size", [100_000, 1_000])
@pytest.mark.parametrize("files", ["on disk", "in memory"])
def test_a_full_outbox_makes_the_application_wait_for_the_reader(
    line: Line, monkeypatch: pytest.MonkeyPatch, files: str, size: int
) -> None:
    """It goes on once the client has taken what there is, every byte in its place."""
    if files == "on disk":
        monkeypatch.setattr(outbox_module, "SPILL_MAX_BYTES", 500_000)
    else:

        def refuse(**_kwargs: object) -> None:
            raise FileNotFoundError("no usable temporary directory")

        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
        monkeypatch.setattr(spool.ALLOWANCE, "limit", 500_000)
    pieces = [bytes([number % 251]) * size for number in range(3_000_000 // size)]
    got: list[bytes] = []
    waits = threading.Event()

    def wait(fd: int, timeout_s: float | None) -> bool:
        waits.set()
        return wait_writable(fd, timeout_s)

    monkeypatch.setattr(wire_module, "wait_writable", wait)

    def read() -> None:
        assert waits.wait(DEADLINE_S)
        while data := line.theirs.recv(65536):
            got.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    for piece in pieces:
        line.wire.send(piece)
        assert spilled(line.wire) < 600_000
    while not line.wire.flush():
        pass
    assert line.wire.shut()
    reader.join(DEADLINE_S)

    assert b"".join(got) == b"".join(pieces)
    assert spool.ALLOWANCE.held == 0


def test_a_client_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the write timeout, and only when the outbox is full."""
    monkeypatch.setattr(outbox_module, "SPILL_MAX_BYTES", 200_000)
    line = Line(timeout_s=0.01)
    line.clog()
    line.wire.send(bytes(HIGH_WATER_BYTES))
    line.wire.send(bytes(200_000))
    with pytest.raises(ClientGoneError, match="does not read"):
        line.wire.send(b"x")
    line.close()


def test_shut_tells_the_client_and_knows_when_it_cannot(line: Line) -> None:
    """False means that there is nobody to linger for."""
    assert line.wire.shut()
    assert line.theirs.recv(1) == b""

    line.ours.close()
    assert not line.wire.shut()


def test_closing_gives_up_what_is_left(line: Line, tmp_path: Path) -> None:
    """Files and spill alike (the fixture counts descriptors)."""
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))
    line.clog()
    line.wire.send(bytes(HIGH_WATER_BYTES * 2))
    line.wire.send(bytes(HIGH_WATER_BYTES * 2))
    with path.open("rb") as file:
        line.wire.send_file(b"head", file.fileno(), 0, 1 << 20)
    line.wire.close()
    line.wire.close()

    assert line.wire.outbox is None
    assert line.wire.flush()
