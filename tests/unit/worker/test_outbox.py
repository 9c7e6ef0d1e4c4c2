"""What a client has yet to take: order, memory, files, and descriptors that come back."""

from __future__ import annotations

import os
import random
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gthreadsrv.worker import outbox as module
from gthreadsrv.worker.allowance import Allowance
from gthreadsrv.worker.outbox import HIGH_WATER_BYTES, Outbox, sendfile
from tests.unit.worker.rig import drained, open_fds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    before = open_fds()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()
    assert open_fds() == before


def take_all(outbox: Outbox, ours: socket.socket, theirs: socket.socket) -> bytes:
    """Flush and read in turns until nothing is left."""
    got = b""
    for _ in range(100_000):
        done = outbox.flush(ours, sendfile)
        got += drained(theirs)
        if done:
            return got
    raise AssertionError("the outbox never empties")


SOURCE = random.Random(1).randbytes(500_000)

PARTS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 400_000)),
        st.tuples(st.just("keep"), st.integers(1, 400_000)),
        st.tuples(st.just("file"), st.integers(1, 400_000)),
        st.tuples(st.just("flush"), st.just(0)),
    ),
    max_size=10,
)


@given(PARTS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_everything_leaves_in_order_whatever_it_is_kept_in(
    pair: tuple[socket.socket, socket.socket],
    tmp_path: Path,
    parts: list[tuple[str, int]],
) -> None:
    """Memory, spill file and stretches of files are one stream of bytes."""
    ours, theirs = pair
    before = open_fds()
    outbox = Outbox()
    path = tmp_path / "source"
    path.write_bytes(SOURCE)
    expected, got = b"", b""
    for number, (kind, size) in enumerate(parts):
        start = number * 1000
        data = SOURCE[start : start + size]
        if kind == "add":
            outbox.add(data)
        elif kind == "keep":
            outbox.keep(data)
        elif kind == "file":
            with path.open("rb") as file:
                outbox.add_file(file.fileno(), start, len(data))
        else:
            outbox.flush(ours, sendfile)
            got += drained(theirs)
            continue
        expected += data
    got += take_all(outbox, ours, theirs)
    outbox.close()

    assert got == expected
    assert open_fds() == before


def test_memory_is_bounded_and_the_rest_goes_to_a_file(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Up to the high-water mark no file is opened; one byte beyond does it."""
    ours, theirs = pair
    before = open_fds()
    outbox = Outbox()
    outbox.add(bytes(HIGH_WATER_BYTES))
    assert open_fds() == before
    assert outbox._memory == HIGH_WATER_BYTES

    for _ in range(100):
        outbox.add(b"x" * 10_000)
    assert open_fds() == before + 2
    assert outbox._memory == HIGH_WATER_BYTES
    assert len(take_all(outbox, ours, theirs)) == HIGH_WATER_BYTES + 1_000_000
    outbox.close()
    assert open_fds() == before


def test_bytes_added_after_a_spill_stay_behind_it(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Small pieces fit into memory again, but must not overtake the file."""
    ours, theirs = pair
    outbox = Outbox()
    outbox.add(b"a" * HIGH_WATER_BYTES)
    outbox.add(b"b" * 10)
    outbox.flush(ours, sendfile)
    got = drained(theirs)
    outbox.add(b"c" * 10)
    got += take_all(outbox, ours, theirs)

    assert got == b"a" * HIGH_WATER_BYTES + b"b" * 10 + b"c" * 10
    outbox.close()


def test_an_outbox_is_full_at_its_limit(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on the application's thread waits."""
    monkeypatch.setattr(module, "SPILL_MAX_BYTES", 100_000)
    outbox = Outbox()
    outbox.add(bytes(HIGH_WATER_BYTES))
    assert not outbox.full
    outbox.add(bytes(99_999))
    assert not outbox.full
    outbox.add(b"x")
    assert outbox.full
    outbox.close()


def test_the_caller_may_close_and_remove_his_file(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """The outbox has a descriptor of its own."""
    ours, theirs = pair
    path = tmp_path / "gone"
    path.write_bytes(b"0123456789" * 50_000)
    outbox = Outbox()
    with path.open("rb") as file:
        outbox.add_file(file.fileno(), 5, 300_000)
    path.unlink()

    assert take_all(outbox, ours, theirs) == (b"5678901234" * 30_000)
    outbox.close()


def test_a_file_cut_short_is_an_error_and_leaks_nothing(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """A Content-Length has been promised, so only a cut connection tells the client."""
    ours, theirs = pair
    before = open_fds()
    path = tmp_path / "short"
    path.write_bytes(bytes(100))
    outbox = Outbox()
    with path.open("rb") as file:
        outbox.add_file(file.fileno(), 0, 200)
    with pytest.raises(ConnectionAbortedError, match="shorter"):
        take_all(outbox, ours, theirs)
    outbox.close()
    outbox.close()

    assert open_fds() == before


def test_a_client_that_left_is_an_error_and_leaks_nothing(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """Whatever part is first in line."""
    ours, theirs = pair
    before = open_fds()
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))
    theirs.close()
    for kind in ("memory", "file", "spill"):
        outbox = Outbox()
        if kind == "memory":
            outbox.keep(b"x")
        elif kind == "file":
            with path.open("rb") as file:
                outbox.add_file(file.fileno(), 0, 100_000)
        else:
            outbox.add(bytes(HIGH_WATER_BYTES + 1))
        with pytest.raises(BrokenPipeError):
            outbox.flush(ours, sendfile)
        outbox.close()

    assert open_fds() == before - 1


def test_one_turn_is_bounded(pair: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    """A client that takes everything does not keep the leader for a whole film."""
    ours, theirs = pair
    path = tmp_path / "film"
    path.write_bytes(bytes(4 << 20))

    class Fast:
        """A socket whose client is never slow."""

        def __init__(self) -> None:
            self.fd = os.open("/dev/null", os.O_WRONLY)

        def fileno(self) -> int:
            return self.fd

    fast = Fast()
    outbox = Outbox()
    with path.open("rb") as file:
        outbox.add_file(file.fileno(), 0, 4 << 20)
    turns = 1
    while not outbox.flush(fast, sendfile):  # type: ignore[arg-type]
        turns += 1
    os.close(fast.fd)
    outbox.close()

    assert turns == 4


@pytest.mark.parametrize("buffering", [-1, 1 << 20])
def test_a_full_disk_is_an_error_and_leaks_nothing(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, buffering: int
) -> None:
    """The application's thread gets the error; closing afterwards raises nothing more."""
    before = open_fds()
    monkeypatch.setattr(module, "open_spool", lambda: open("/dev/full", "w+b", buffering=buffering))
    outbox = Outbox()
    with pytest.raises(OSError, match="No space left"):
        outbox.add(bytes(HIGH_WATER_BYTES + 1))
    with pytest.raises(OSError, match="No space left"):
        outbox.add(bytes(HIGH_WATER_BYTES + 1))
    outbox.close()

    assert open_fds() == before


def test_together_they_keep_only_so_much_in_memory(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of clients that do not read must not fill it: the rest waits in files."""
    allowance = Allowance(1_000_000)
    monkeypatch.setattr(module, "ALLOWANCE", allowance)
    first, second = Outbox(), Outbox()
    first.keep(memoryview(b"a" * 900_000)[100_000:])
    assert allowance.held == 900_000
    second.keep(b"b" * 900_000)
    second.add(b"c" * 200_000)
    assert allowance.held == 900_000

    assert take_all(second, *pair) == b"b" * 900_000 + b"c" * 200_000
    assert take_all(first, *pair) == b"a" * 800_000
    assert allowance.held == 0
    for outbox in (first, second):
        outbox.close()


def test_without_a_disk_it_is_memory_all_the_same(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The response has begun; what was given up is given back."""

    def full() -> None:
        raise OSError(28, "No space left on device")

    allowance = Allowance(10)
    monkeypatch.setattr(module, "ALLOWANCE", allowance)
    monkeypatch.setattr(module, "open_spool", full)
    outbox = Outbox()
    outbox.keep(b"a" * 100)
    assert allowance.held == 100
    outbox.close()
    assert allowance.held == 0
