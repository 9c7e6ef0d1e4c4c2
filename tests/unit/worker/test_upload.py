"""A body on its way in, and the nameless file it spills to."""

from __future__ import annotations

import io
import os
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.worker import upload
from gthreadsrv.worker.spool import open_spool
from gthreadsrv.worker.upload import MEMORY_MAX_BYTES, Upload
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


def test_without_either_the_error_is_the_directorys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller learns why no file could be had."""

    def refuse(**_kwargs: object) -> None:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(FileNotFoundError, match="no usable temporary directory"):
        open_spool()
