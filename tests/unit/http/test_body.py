"""Bodies: what is data, what is framing, and where the next request starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gthreadsrv.http import (
    BadRequestError,
    BodyDecoder,
    BodyTooLargeError,
    ChunkedBody,
    HeadParser,
    HeadTooLargeError,
    LengthBody,
    Limits,
    make_body,
)
from gthreadsrv.http.body import CHUNK_LINE_BYTES, FREE_OVERHEAD_BYTES


def decode(decoder: BodyDecoder, stream: bytes, size: int = 1_000_000) -> bytes:
    """The data in a stream that comes in pieces; stops when the body is done."""
    data = []
    for start in range(0, len(stream), size):
        data += decoder.feed(stream[start : start + size])
        if decoder.done:
            break
    return b"".join(data)


def test_make_body_follows_the_head(parser: HeadParser, limits: Limits) -> None:
    """Chunked, a length, or nothing to wait for."""
    head = parser.parse(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n")
    assert isinstance(make_body(head, limits), LengthBody)
    assert isinstance(
        make_body(replace(head, content_length=-1, chunked=True), limits), ChunkedBody
    )
    assert make_body(replace(head, content_length=0), limits) is None
    assert make_body(replace(head, content_length=-1), limits) is None


def test_length_ends_where_it_says() -> None:
    """Not a byte of what follows is taken, and none is missing before."""
    body = LengthBody(5)
    assert body.feed(b"hel") == [b"hel"]
    assert not body.done
    assert body.feed(b"loGET") == [b"lo"]
    assert (body.done, body.rest, body.received) == (True, b"GET", 5)


def test_length_of_nothing_is_done() -> None:
    """There is no byte to wait for."""
    assert LengthBody(0).done


STREAM = b"4;x=y\r\nabcd\r\n00A\r\n0123456789\r\n0\r\nT: x\r\n\r\n"


@pytest.mark.parametrize("size", range(1, 45))
def test_chunks_however_they_are_cut(limits: Limits, size: int) -> None:
    """Data, end and rest are the same for every size of piece."""
    body = ChunkedBody(limits)
    assert decode(body, STREAM, size) == b"abcd0123456789"
    assert body.done
    assert body.received == 14
    end = -(-len(STREAM) // size) * size
    stream = STREAM + b"N" * (end - len(STREAM))
    body = ChunkedBody(limits)
    decode(body, stream, size)
    assert body.rest == stream[len(STREAM) :]


def test_chunks_leave_the_next_request(limits: Limits) -> None:
    """A request in the same read as the last chunk is not lost."""
    body = ChunkedBody(limits)
    decode(body, STREAM + b"GET / HTTP/1.1\r\n")
    assert body.rest == b"GET / HTTP/1.1\r\n"


@pytest.mark.parametrize("size", [1, 1000])
def test_chunked_body_over_the_limit(size: int) -> None:
    """413 with the size that passes the limit, before its data; at the limit it passes."""
    limits = Limits(line=99, fields=9, field_size=99, body=10)
    exact = b"6\r\nabcdef\r\n4\r\nabcd\r\n0\r\n\r\n"
    assert decode(ChunkedBody(limits), exact, size) == b"abcdefabcd"
    for over in (b"b\r\n", b"6\r\nabcdef\r\n5\r\n", b"fffffffffffffff\r\n"):
        with pytest.raises(BodyTooLargeError) as caught:
            decode(ChunkedBody(limits), over, size)
        assert caught.value.status == 413


@pytest.mark.parametrize("size", [1, 5000])
def test_size_line_has_a_bound(limits: Limits, size: int) -> None:
    """An extension may fill the line, and not a byte more."""
    line = b"1;a=" + b"b" * (CHUNK_LINE_BYTES - 4)
    assert decode(ChunkedBody(limits), line + b"\r\nx\r\n0\r\n\r\n", size) == b"x"
    with pytest.raises(BadRequestError, match="chunk size line"):
        decode(ChunkedBody(limits), line + b"b", size)


def test_sizes_stay_within_64_bits(limits: Limits) -> None:
    """Fifteen digits are read, sixteen are not, zeros or no."""
    assert decode(ChunkedBody(limits), b"000000000000001\r\nx\r\n0\r\n\r\n") == b"x"
    with pytest.raises(BadRequestError):
        decode(ChunkedBody(limits), b"0000000000000001\r\nx\r\n")


def test_framing_must_not_dwarf_the_data(limits: Limits) -> None:
    """One byte a chunk is allowed for ever, one byte in a kilobyte of extension is not."""
    tiny = b"1\r\nx\r\n"
    assert len(decode(ChunkedBody(limits), tiny * 100_000)) == 100_000
    dressed = b"1;" + b"e" * 1000 + b"\r\nx\r\n"
    allowed = FREE_OVERHEAD_BYTES // len(dressed)
    decode(ChunkedBody(limits), dressed * allowed)
    with pytest.raises(BadRequestError, match="too small for their framing"):
        decode(ChunkedBody(limits), dressed * (allowed + 2))


def test_signed_chunks_pass(limits: Limits) -> None:
    """The longest extensions in use, signatures on chunks of 8 KiB and more, pass for ever."""
    chunk = b"2000;chunk-signature=" + b"f" * 64 + b"\r\n" + b"x" * 8192 + b"\r\n"
    assert len(decode(ChunkedBody(limits), chunk * 1000)) == 8_192_000


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "trailers",
    [b"A: b\r\n" * 4, b"A: " + b"b" * 97, b"A: " + b"b" * 97 + b"\r\n\r\n"],
    ids=["too many", "too long", "too long and whole"],
)
def test_trailers_keep_the_limits_of_fields(trailers: bytes, size: int) -> None:
    """431, as for fields in a head, and without waiting for their end."""
    limits = Limits(line=99, fields=3, field_size=99, body=0)
    fine = b"0\r\nA: b\r\nA: b\r\nA: " + b"b" * 96 + b"\r\n\r\n"
    assert decode(ChunkedBody(limits), fine, size) == b""
    with pytest.raises(HeadTooLargeError) as caught:
        decode(ChunkedBody(limits), b"0\r\n" + trailers, size)
    assert caught.value.status == 431


def test_trailer_section_has_the_limit_of_a_head() -> None:
    """Trailers in bounds, each and in number, are refused when all of them are too much."""
    limits = Limits(line=99, fields=9999, field_size=1000, body=0)
    trailer = b"A: " + b"b" * 995 + b"\r\n"
    with pytest.raises(HeadTooLargeError):
        decode(ChunkedBody(limits), b"0\r\n" + trailer * (limits.head // 1000 + 1))
