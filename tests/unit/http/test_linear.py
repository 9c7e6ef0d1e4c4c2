"""Work is linear in bytes, however they are cut: counted in bytes touched, not in seconds.

The bytes and buffers that the readers work on are replaced by ones that count what is searched,
copied or compared. A reader that looked again at what it holds with each new piece would touch
some billion bytes here.
"""

from __future__ import annotations

from typing import SupportsIndex

import pytest

from gthreadsrv.http import ChunkedBody, HeadBuffer, Limits, lines

LIMITS = Limits(line=70_000, fields=20_000, field_size=70_000, body=0)
SIZE = 64 * 1024


class Work:
    """Bytes touched so far."""

    touched = 0


class CountingBytes(bytes):
    """What comes from the network, with its searches and copies counted."""

    def find(self, sub: object, start: object = 0, end: object = None) -> int:
        found = super().find(sub, start, end)  # type: ignore[arg-type]
        stop = len(self) if end is None else min(end, len(self))  # type: ignore[type-var]
        Work.touched += max(0, (found if found >= 0 else stop) - start)  # type: ignore[operator]
        return found

    def __contains__(self, item: object) -> bool:
        Work.touched += len(self)
        return super().__contains__(item)  # type: ignore[arg-type]

    def __getitem__(self, key: SupportsIndex | slice) -> bytes:  # type: ignore[override]
        found = super().__getitem__(key)
        Work.touched += len(found) if isinstance(key, slice) else 1  # type: ignore[arg-type]
        return found  # type: ignore[return-value]


class CountingBytearray(bytearray):
    """What is held of a line, with every look at it and copy of it counted."""

    def __iadd__(self, other: object) -> CountingBytearray:  # type: ignore[override,misc]  # noqa: PYI034 - Self is 3.11
        Work.touched += len(other)  # type: ignore[arg-type]
        super().__iadd__(other)  # type: ignore[arg-type]
        return self

    def _count(self) -> None:
        Work.touched += len(self)

    def __bytes__(self) -> bytes:
        self._count()
        return bytes(memoryview(self))

    def find(self, *arguments: object) -> int:
        self._count()
        return super().find(*arguments)  # type: ignore[arg-type]

    def __contains__(self, item: object) -> bool:
        self._count()
        return super().__contains__(item)  # type: ignore[arg-type]

    def __getitem__(self, key: object) -> object:  # type: ignore[override]
        self._count()
        return super().__getitem__(key)  # type: ignore[call-overload]


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from nothing, with the readers' buffer replaced."""
    monkeypatch.setattr(lines, "bytearray", CountingBytearray, raising=False)
    monkeypatch.setattr(Work, "touched", 0)


def pieces(stream: bytes, size: int) -> list[CountingBytes]:
    return [CountingBytes(stream[start : start + size]) for start in range(0, len(stream), size)]


ONE_LINE = b"GET /" + b"a" * (SIZE - 30) + b" HTTP/1.1\r\n"
ONE_FIELD = b"GET / HTTP/1.1\r\nX: " + b"a" * (SIZE - 30) + b"\r\n"
BLANKS = b"GET / HTTP/1.1\r\nX:" + b" " * (SIZE - 30) + b"\r\n"
MANY_FIELDS = b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (SIZE // 6 - 4)


@pytest.mark.parametrize("size", [1, 3, 1460, SIZE])
@pytest.mark.parametrize(
    "stream", [ONE_LINE, ONE_FIELD, BLANKS, MANY_FIELDS], ids=["line", "field", "blanks", "fields"]
)
def test_a_head_of_64_kib(stream: bytes, size: int) -> None:
    """A byte of a head is touched a handful of times, in one piece or in 65,536."""
    buffer = HeadBuffer(LIMITS)
    head = None
    for piece in pieces(stream + b"\r\n", size):
        head = buffer.feed(piece)
    assert head == stream + b"\r\n"
    assert len(stream) // 2 < Work.touched < 8 * len(stream)


CHUNKS = b"1\r\nx\r\n" * (SIZE // 6) + b"0\r\n\r\n"
LARGE_CHUNK = b"%x\r\n" % SIZE + b"x" * SIZE + b"\r\n0\r\n\r\n"
TRAILER = b"0\r\nX: " + b"a" * (SIZE - 30) + b"\r\n\r\n"
EXTENSIONS = (b"400;a=" + b"b" * 900 + b"\r\n" + b"x" * 1024 + b"\r\n") * 32 + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 3, 1460, SIZE * 2])
@pytest.mark.parametrize(
    "stream",
    [CHUNKS, LARGE_CHUNK, TRAILER, EXTENSIONS],
    ids=["chunks", "large chunk", "trailer", "extensions"],
)
def test_a_chunked_body_of_64_kib(stream: bytes, size: int) -> None:
    """The same holds for sizes, data and trailers."""
    body = ChunkedBody(LIMITS)
    for piece in pieces(stream, size):
        body.feed(piece)
    assert body.done
    assert len(stream) // 2 < Work.touched < 8 * len(stream)


def test_rescanning_would_be_seen() -> None:
    """The measure can fail: searching what is held with each byte is millions of touches."""
    held = lines.LineReader()._held
    assert isinstance(held, CountingBytearray)
    for piece in pieces(b"a" * 4096, 1):
        held += piece
        held.find(b"\n")
    assert Work.touched > 4096 * 8 * 8


@pytest.mark.parametrize(
    "line",
    [
        b"X:" + b" \t" * 32_000 + b"\x00",
        b"X:" + b" a" * 32_000 + b"\x00",
        b"X" * 64_000,
        b"X" * 64_000 + b" : y",
    ],
    ids=["blanks", "words", "name", "name and blank"],
)
@pytest.mark.timeout(20)
def test_no_line_makes_the_grammar_backtrack(line: bytes) -> None:
    """A line of 64 KB that matches nothing is refused in milliseconds; quadratic is minutes."""
    with pytest.raises(lines.BadRequestError):
        for _ in range(20):
            lines.read_field(line)
