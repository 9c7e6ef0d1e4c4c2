"""A body on its way in, and the nameless file it spills to."""

from __future__ import annotations

import io
import os
import tempfile
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.worker import spool, upload
from gthreadsrv.worker.allowance import Allowance
from gthreadsrv.worker.spool import open_spool
from gthreadsrv.worker.upload import MEMORY_MAX_BYTES, UNCOUNTED_BYTES, Upload
from tests.unit.worker.rig import open_fds


@given(st.lists(st.binary(max_size=300_000), max_size=8), st.booleans())
def test_what_goes_in_comes_out(pieces: list[bytes], large: bool) -> None:  # noqa: FBT001
    """In order and once, in memory or in a file; the file is at its beginning."""
    if large:
        pieces = [*pieces, bytes(MEMORY_MAX_BYTES)]
    body = Upload()
    for piece in pieces:
        body.write(piece)
    body.seal()
    whole = b"".join(pieces)
    with body.finish() as file:
        assert isinstance(file, io.BytesIO) == (len(whole) <= MEMORY_MAX_BYTES)
        assert file.read() == whole
    assert body.size == len(whole)


def test_an_empty_body() -> None:
    """Nothing written is an empty file."""
    body = Upload()
    body.seal()

    assert body.finish().read() == b""


def test_no_file_is_opened_for_a_body_of_exactly_the_limit() -> None:
    """The limit itself still fits into memory."""
    before = open_fds()
    body = Upload()
    body.write(bytes(MEMORY_MAX_BYTES))
    assert open_fds() == before

    body.write(b"x")
    assert open_fds() == before + 1
    body.discard()
    body.discard()
    assert open_fds() == before


@pytest.mark.parametrize("size", [1, 2, 10])
def test_a_body_in_small_pieces_is_no_larger_than_in_large_ones(size: int) -> None:
    """Chunks and packets are as small as a client likes; each as an object would be forty bytes."""
    tracemalloc.start()
    try:
        body = Upload()
        for _ in range(200_000 // size):
            body.write(bytes(bytearray(size)))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 300_000
    assert body.finish().read() == bytes(200_000 // size * size)


def test_together_they_keep_only_so_much_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of slow uploads must not fill it: further ones go to files. Small ones are free."""
    allowance = Allowance(1_000_000)
    monkeypatch.setattr(upload, "ALLOWANCE", allowance)
    before = open_fds()
    bodies = [Upload() for _ in range(3)]
    for body in bodies:
        body.write(b"a" * UNCOUNTED_BYTES)
    assert allowance.held == 0
    for body in bodies:
        body.write(b"b" * 600_000)
        body.write(b"c" * 100_000)
    assert open_fds() == before + 2
    assert allowance.held == UNCOUNTED_BYTES + 700_000
    for body in bodies[:2]:
        body.seal()
        with body.finish() as file:
            assert file.read() == b"a" * UNCOUNTED_BYTES + b"b" * 600_000 + b"c" * 100_000
        body.discard()
    assert allowance.held == 0
    bodies[2].discard()
    first, last = Upload(), Upload()
    first.write(b"d" * 900_000)
    last.write(b"e" * 90_000)
    first.discard()
    first.discard()
    assert allowance.held == 90_000
    last.write(b"e" * MEMORY_MAX_BYTES)
    assert allowance.held == 0, "all of it is in the file"
    last.discard()
    assert allowance.held == 0
    assert open_fds() == before


def test_a_full_disk_shows_at_the_seal_and_not_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still buffered is written while the request can still be refused."""
    before = open_fds()
    monkeypatch.setattr(
        upload, "open_spool", lambda: open("/dev/full", "w+b", buffering=4 * MEMORY_MAX_BYTES)
    )
    body = Upload()
    body.write(bytes(MEMORY_MAX_BYTES + 1))
    with pytest.raises(OSError, match="No space left"):
        body.seal()
    body.discard()

    assert open_fds() == before


def test_the_spool_has_no_name() -> None:
    """Nothing is left in the temporary directory, even while it is open."""
    before = set(os.listdir(tempfile.gettempdir()))
    with open_spool() as file:
        file.write(b"secret")
        new = set(os.listdir(tempfile.gettempdir())) - before
        assert not {name for name in new if name.startswith("gthreadsrv-")}


def test_without_a_temporary_directory_the_kernel_lends_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A read-only root still takes large bodies."""

    def refuse(**_kwargs: object) -> None:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with open_spool() as file:
        file.write(b"abc")
        file.seek(0)
        assert file.read() == b"abc"


def test_what_the_kernel_lends_is_memory_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One client must not fill the container with a body, and be the end of all the others."""

    def refuse(**_kwargs: object) -> None:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(spool.ALLOWANCE, "limit", 3 * MEMORY_MAX_BYTES)
    before = open_fds()
    bodies = [Upload(), Upload()]
    bodies[0].write(bytes(2 * MEMORY_MAX_BYTES))
    with pytest.raises(OSError, match="no room in memory"):
        bodies[1].write(bytes(2 * MEMORY_MAX_BYTES))
    bodies[1].discard()
    bodies[0].write(b"end")
    bodies[0].seal()
    with bodies[0].finish() as file:
        assert len(file.read()) == 2 * MEMORY_MAX_BYTES + 3
    assert spool.ALLOWANCE.held == 0
    assert open_fds() == before


def test_without_either_the_error_is_the_directorys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller learns why no file could be had."""

    def refuse(**_kwargs: object) -> None:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(FileNotFoundError, match="no usable temporary directory"):
        open_spool()
