"""Lines out of a stream, and the two kinds of line in a head."""

from __future__ import annotations

import pytest

from gthreadsrv.http import BadRequestError
from gthreadsrv.http.grammar import METHODS, TOKEN_BYTES
from gthreadsrv.http.lines import LineReader, LineTooLongError, read_field, read_request_line


def take_all(pieces: list[bytes], limit: int) -> list[bytes]:
    reader = LineReader()
    lines = []
    for piece in pieces:
        position = 0
        while position < len(piece):
            line, position = reader.take(piece, position, limit)
            if line is not None:
                lines.append(line)
    return lines


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_come_out_however_they_are_cut(size: int) -> None:
    """The cut is not seen in the lines, an empty line is a line."""
    stream = b"one\r\n\r\ntwo\r\n"
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]

    assert take_all(pieces, 3) == [b"one", b"", b"two"]


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"abc\n", BadRequestError),
        (b"abc\rd", BadRequestError),
        (b"abc\r\r\n", BadRequestError),
        (b"\n", BadRequestError),
        (b"abcd", LineTooLongError),
        (b"abcd\r\n", LineTooLongError),
        (b"abcd\n", LineTooLongError),
        (b"abc\n\r\n", BadRequestError),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 100])
def test_verdict_comes_from_the_bytes_not_the_cut(
    stream: bytes, error: type[Exception], size: int
) -> None:
    """The first fault in the stream decides, also when a later one is already there."""
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]

    with pytest.raises(error):
        take_all(pieces, 3)


def test_a_line_at_its_limit_may_wait_for_its_end() -> None:
    """The CRLF is not counted, and neither is a CR whose LF has yet to come."""
    reader = LineReader()
    assert reader.take(b"abc", 0, 3) == (None, 3)
    assert reader.take(b"\r", 0, 3) == (None, 1)
    assert reader.started
    assert reader.take(b"\nrest", 0, 3) == (b"abc", 1)
    assert not reader.started


@pytest.mark.parametrize("data", [b"d", b"\r", b"\n", b"cd\r\n"])
def test_only_the_plain_middle_of_a_line_is_held_unseen(data: bytes) -> None:
    """What ends a line, starts one or passes the limit goes the careful way."""
    reader = LineReader()
    assert not reader.hold(b"a", 3)
    reader.take(b"a", 0, 3)
    assert reader.hold(b"bc", 3)
    assert not reader.hold(data, 3)


def test_a_cr_that_waits_for_its_lf_is_not_skipped() -> None:
    """After a CR even a plain byte is looked at."""
    reader = LineReader()
    reader.take(b"a\r", 0, 9)
    assert not reader.hold(b"b", 9)


def test_request_line_is_taken_apart() -> None:
    """Three parts, the last of them a number."""
    assert read_request_line(b"GET /a?b HTTP/1.0") == ("GET", "/a?b", 0)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        # The version of the protocol comes before what a version may not know.
        (b"PRI * HTTP/2.0", 505),
        (b"FOO a HTTP/3.0", 505),
        # The method comes before the form of its target.
        (b"CONNECT h:1 HTTP/1.1", 501),
        # Grammar comes before both.
        (b"F()O / HTTP/2.0", 400),
        (b"FOO /# HTTP/2.0", 400),
        (b"GET * HTTP/1.1", 400),
    ],
)
def test_status_of_a_request_line_with_two_faults(line: bytes, status: int) -> None:
    """The more basic fault is the one that is answered."""
    with pytest.raises(BadRequestError) as caught:
        read_request_line(line)
    assert caught.value.status == status


def test_every_method_is_a_token_and_upper_case() -> None:
    """Nothing in the list could fail the grammar that is checked before it."""
    for method in METHODS:
        assert set(method.encode()) <= TOKEN_BYTES
        assert method == method.upper()


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"A:b", (b"A", b"b")),
        (b"A: \tb c\t ", (b"A", b"b c")),
        (b"A:", (b"A", b"")),
        (b"A: :b", (b"A", b":b")),
        (b"A: \xff", (b"A", b"\xff")),
    ],
)
def test_field_is_taken_apart(line: bytes, field: tuple[bytes, bytes]) -> None:
    """The name ends at the first colon; blanks around the value go."""
    assert read_field(line) == field


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b" a: b", "folded"),
        (b"\ta: b", "folded"),
        (b"ab", "without a colon"),
        (b"a : b", "blank before the colon"),
        (b"a\t: b", "blank before the colon"),
        (b": b", "not a token"),
        (b"a@: b", "not a token"),
        (b"a: \x00", "control byte"),
    ],
)
def test_a_bad_field_is_told_by_its_fault(line: bytes, complaint: str) -> None:
    """Whoever reads the log learns which rule was broken."""
    with pytest.raises(BadRequestError, match=complaint):
        read_field(line)
