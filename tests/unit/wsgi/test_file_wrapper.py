"""wsgi.file_wrapper: what the kernel may copy by itself, and what must be read."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import os
import socket
import tarfile
import tempfile
import zipfile
from typing import IO, TYPE_CHECKING, Any

import pytest

from gthreadsrv.wsgi.file_wrapper import FileWrapper

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"0123456789" * 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def spanned(wrapper: FileWrapper) -> bytes | None:
    """What the kernel would send; None when it is to be read."""
    span = wrapper.span()
    if span is None:
        return None
    fd, offset, count = span
    return os.pread(fd, count, offset)


@pytest.mark.parametrize("buffering", [-1, 0, 100])
@pytest.mark.parametrize("mode", ["rb", "r+b"])
def test_a_plain_file_is_the_kernels(path: Path, mode: str, buffering: int) -> None:
    """Buffered or not, and from where the application left it."""
    with open(path, mode, buffering=buffering) as file:
        assert spanned(FileWrapper(file)) == CONTENT
        file.read(7)
        assert spanned(FileWrapper(file)) == CONTENT[7:]
        file.seek(-5, os.SEEK_END)
        assert spanned(FileWrapper(file)) == CONTENT[-5:]
        file.seek(100, os.SEEK_END)
        assert spanned(FileWrapper(file)) == b""


def test_what_is_written_and_not_flushed_is_sent(path: Path) -> None:
    """The buffer's bytes are part of the file the application sees."""
    with open(path, "r+b") as file:
        file.read(10)
        file.seek(0)
        file.write(b"new")
        file.seek(0)
        assert spanned(FileWrapper(file)) == b"new" + CONTENT[3:]


def test_temporary_files_are_files(path: Path) -> None:
    """Also where tempfile puts an object of its own around them."""
    with tempfile.TemporaryFile() as plain, tempfile.NamedTemporaryFile() as named:
        for file in (plain, named):
            file.write(CONTENT)
            file.seek(3)
            assert spanned(FileWrapper(file)) == CONTENT[3:]
            assert b"".join(FileWrapper(file)) == CONTENT[3:]


def test_a_djangos_file_is_a_file(path: Path) -> None:
    """FileResponse gives its File object, whose methods are those of the file inside."""
    files = pytest.importorskip("django.core.files")
    with open(path, "rb") as inner:
        assert spanned(FileWrapper(files.File(inner))) == CONTENT


class Deciphering:
    """Around a real file, but its bytes are not the file's."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def read(self, size: int = -1) -> bytes:
        return self.file.read(size).translate(bytes(range(255, -1, -1)))


class DecipheringReader(io.BufferedReader):
    """The same as a subclass."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size).upper()


class DecipheringRaw(io.FileIO):
    """The same one level down."""

    def read(self, size: int | None = -1) -> bytes:
        return (super().read(size) or b"").upper()


def test_what_changes_the_bytes_is_read(path: Path) -> None:
    """Wrappers and subclasses may decipher, limit or count: their read() is what counts."""
    with open(path, "rb") as file:
        assert FileWrapper(Deciphering(file)).span() is None  # type: ignore[arg-type]
    with DecipheringReader(io.FileIO(path)) as buffered:
        assert FileWrapper(buffered).span() is None
    with DecipheringRaw(path) as raw:
        assert FileWrapper(raw).span() is None
    with io.BufferedReader(DecipheringRaw(path)) as around:
        assert FileWrapper(around).span() is None


def test_archives_are_read(tmp_path: Path) -> None:
    """They have a fileno() of the compressed file."""
    gz, bz, zipped, tarred = (tmp_path / name for name in ("a.gz", "a.bz2", "a.zip", "a.tar"))
    with gzip.open(gz, "wb") as file:
        file.write(CONTENT)
    with bz2.open(bz, "wb") as bz_file:
        bz_file.write(CONTENT)
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("x", CONTENT)
    with tarfile.open(tarred, "w") as tar:
        info = tarfile.TarInfo("x")
        info.size = len(CONTENT)
        tar.addfile(info, io.BytesIO(CONTENT))
    with zipfile.ZipFile(zipped) as archive, tarfile.open(tarred) as tar:
        member = tar.extractfile("x")
        assert member is not None
        files: list[Any] = [
            gzip.open(gz), bz2.open(bz), archive.open("x"), member,
            io.BufferedReader(gzip.open(gz)),
        ]  # fmt: skip
        for file in files:
            wrapper = FileWrapper(file)
            assert wrapper.span() is None
            assert b"".join(wrapper) == CONTENT
            wrapper.close()


def test_what_is_no_file_is_read() -> None:
    """Memory, spooled files, pipes and sockets."""
    assert FileWrapper(io.BytesIO(b"x")).span() is None
    with tempfile.SpooledTemporaryFile() as spooled:
        assert FileWrapper(spooled).span() is None
    read_end, write_end = os.pipe()
    os.write(write_end, b"pipe")
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        assert FileWrapper(pipe).span() is None
        assert b"".join(FileWrapper(pipe)) == b"pipe"
    ours, theirs = socket.socketpair()
    theirs.send(b"sock")
    theirs.close()
    with ours, ours.makefile("rb") as stream:
        assert FileWrapper(stream).span() is None


class Odd:
    """Has attributes of the right names, and none of the right kind."""

    file = "name.txt"
    raw = 5
    close = "not callable"

    def read(self, size: int) -> bytes:
        return b""


def test_odd_objects_are_read_and_closed_if_they_can_be() -> None:
    """Nothing but read() is needed."""
    wrapper = FileWrapper(Odd())  # type: ignore[arg-type]

    assert wrapper.span() is None
    assert list(wrapper) == []
    wrapper.close()


def test_a_closed_file_is_left_to_its_own_error(path: Path) -> None:
    """The read raises, as it would anywhere."""
    file = open(path, "rb")
    file.close()
    wrapper = FileWrapper(file)

    assert wrapper.span() is None
    with pytest.raises(ValueError, match="closed file"):
        list(wrapper)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc here")
def test_files_that_claim_to_be_empty_are_read() -> None:
    """Those of /proc have no size and plenty of bytes."""
    with open("/proc/self/stat", "rb") as file:
        wrapper = FileWrapper(file)
        assert wrapper.span() is None
        assert str(os.getpid()).encode() in b"".join(wrapper)


def test_iteration_gives_blocks(path: Path) -> None:
    """Of the size asked for."""
    with open(path, "rb") as file:
        blocks = list(FileWrapper(file, 4096))

    assert [len(block) for block in blocks] == [4096, 4096, 1808]


def test_close_closes_the_file(path: Path) -> None:
    """The server calls it as it would call any iterable's."""
    with open(path, "rb") as file:
        FileWrapper(file).close()
        assert file.closed


def test_a_read_that_only_looks_like_the_files_own_is_not_trusted(path: Path) -> None:
    """A bound method of another file is not this one's."""
    with open(path, "rb") as file, open(path, "rb") as other:
        odd: Any = Deciphering(file)
        odd.read = other.read
        assert FileWrapper(odd).span() is None
        odd.read = functools.partial(file.read)
        assert FileWrapper(odd).span() is None
