"""Where a head ends, and the limits that are kept while it comes."""

from __future__ import annotations

import pytest

from gthreadsrv.http import HeadBuffer, HeadTooLargeError, Limits, ProtocolError, split_head

HEAD = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def feed(stream: bytes, limits: Limits, size: int) -> bytes | None:
    """The first head of a stream that comes in pieces of a size."""
    buffer = HeadBuffer(limits)
    for start in range(0, len(stream), size):
        head = buffer.feed(stream[start : start + size])
        if head is not None:
            return head
    return None


@pytest.mark.parametrize("after", [b"", b"\r\n", b"body", HEAD])
def test_a_whole_small_head_is_split_off_at_once(limits: Limits, after: bytes) -> None:
    """What follows is not looked at."""
    assert split_head(HEAD + after, limits) == len(HEAD)


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"\r\n" + HEAD, HEAD[:-1], b"\r\n\r\n" + HEAD])
def test_the_quick_look_leaves_what_is_not_plain(limits: Limits, data: bytes) -> None:
    """An unfinished head, and anything in front of one, is for the buffer."""
    assert split_head(data, limits) == -1


def test_the_quick_look_leaves_what_may_break_a_limit() -> None:
    """A head longer than some limit has its lines counted."""
    assert split_head(HEAD, Limits(line=22, fields=9, field_size=99, body=0)) == -1
    assert split_head(HEAD, Limits(line=99, fields=9, field_size=22, body=0)) == -1


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_buffer_gives_head_and_rest(limits: Limits, size: int) -> None:
    """The head comes out as it went in; what was fed with its last byte is left over."""
    buffer = HeadBuffer(limits)
    stream = HEAD + b"next"
    fed = 0
    head = None
    while head is None:
        head = buffer.feed(stream[fed : fed + size])
        fed += size
    assert head == HEAD
    assert stream[:fed] == HEAD + buffer.rest


def test_buffer_serves_one_head_after_the_other(limits: Limits) -> None:
    """It starts afresh, limits and the empty line before a request included."""
    buffer = HeadBuffer(limits)
    for _ in range(3):
        assert not buffer.started
        assert buffer.feed(b"\r\n") is None
        assert buffer.started
        assert buffer.feed(HEAD[:5]) is None
        assert buffer.feed(HEAD[5:] + b"x") == HEAD
        assert buffer.rest == b"x"


def test_rest_is_of_the_last_feed(limits: Limits) -> None:
    """Bytes once left over are not left over again."""
    buffer = HeadBuffer(limits)
    buffer.feed(HEAD + b"x")
    buffer.feed(b"GET ")
    assert buffer.rest == b""


def line_of(size: int) -> bytes:
    return b"GET /" + b"a" * (size - 14) + b" HTTP/1.1"


@pytest.mark.parametrize("size", [1, 1000, 100_000])
def test_request_line_limit(limits: Limits, size: int) -> None:
    """A request line at the limit passes, one byte more is 414; 8,000 bytes always pass."""
    assert len(line_of(8000)) == 8000
    assert feed(line_of(8000) + b"\r\nHost: h\r\n\r\n", limits, size)
    assert feed(line_of(8190) + b"\r\nHost: h\r\n\r\n", limits, size)
    for end in (b"", b"\r\n\r\n"):
        with pytest.raises(HeadTooLargeError) as caught:
            feed(line_of(8191) + end, limits, size)
        assert caught.value.status == 414


@pytest.mark.parametrize("size", [1, 1000, 100_000])
def test_field_size_limit(limits: Limits, size: int) -> None:
    """A field line at the limit passes, one byte more is 431, before its end has come."""
    start = b"GET / HTTP/1.1\r\nX: "
    assert feed(start + b"a" * 8187 + b"\r\n\r\n", limits, size)
    for end in (b"", b"\r\n\r\n"):
        with pytest.raises(HeadTooLargeError) as caught:
            feed(start + b"a" * 8188 + end, limits, size)
        assert caught.value.status == 431


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_field_count_limit(size: int) -> None:
    """The fields are counted as they come: one too many is 431, without the end of the head."""
    limits = Limits(line=99, fields=3, field_size=99, body=0)
    start = b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 3
    assert feed(start + b"\r\n", limits, size)
    with pytest.raises(HeadTooLargeError) as caught:
        feed(start + b"A: b\r\n", limits, size)
    assert caught.value.status == 431


@pytest.mark.parametrize("size", [1000, 100_000])
def test_head_limit(limits: Limits, size: int) -> None:
    """Fields within bounds, each and in number, are refused when all of them are too much."""
    line = b"X: " + b"a" * 7995 + b"\r\n"
    start = b"GET / HTTP/1.1\r\n"
    assert feed(start + line * 9 + b"\r\n", limits, size)
    with pytest.raises(HeadTooLargeError, match=f"head longer than {limits.head}") as caught:
        feed(start + line * 10, limits, size)
    assert caught.value.status == 431


@pytest.mark.parametrize("size", [1, 2, 4, 1_000_000])
def test_head_at_its_limit(size: int) -> None:
    """A head may fill its limit to the last byte; any byte of a further line is 431."""
    limits = Limits(line=14, fields=10_000, field_size=100, body=0)
    full = b"GET / HTTP/1.1\r\n"
    room = limits.head - len(full)
    full += (b"X: " + b"a" * 95 + b"\r\n") * (room // 100)
    full += b"Y:" + b"a" * (room % 100 - 2) + b"\r\n"  # this last line end need not fit
    assert len(full) % 4 == 0  # so that a piece begins with what is too much
    assert feed(full + b"\r\n", limits, size)
    with pytest.raises(HeadTooLargeError):
        feed(full + b"Z\n..", limits, size)


@pytest.mark.parametrize(
    "begin",
    [b"\x16\x03\x01", b" GET", b"\nGET", b"GET /\r\n", b"GET / HTTP/2.0\r\n", b"G\n", b"\r\n\r\n"],
)
@pytest.mark.parametrize("size", [1, 100])
def test_what_no_byte_can_mend_is_refused_without_waiting(
    limits: Limits, begin: bytes, size: int
) -> None:
    """A client that waits for an answer after these gets one, not a time-out."""
    with pytest.raises(ProtocolError):
        feed(begin, limits, size)


def test_limits_leave_room_for_one_large_field() -> None:
    """Raising the limit of one field raises that of the head, or it would be no use."""
    limits = Limits(line=100, fields=9, field_size=200_000, body=0)
    assert feed(b"GET / HTTP/1.1\r\nX: " + b"a" * 199_000 + b"\r\n\r\n", limits, 10_000)


@pytest.mark.parametrize("name", ["line", "fields", "field_size"])
def test_limits_of_nothing_are_a_mistake(name: str) -> None:
    """There is no unlimited head, which a 0 might be taken to mean."""
    values = {"line": 1, "fields": 1, "field_size": 1, "body": 0, name: 0}
    with pytest.raises(ValueError, match=name):
        Limits(**values)


def test_a_negative_body_limit_is_a_mistake() -> None:
    """Zero is the way to write unlimited."""
    with pytest.raises(ValueError, match="body"):
        Limits(line=1, fields=1, field_size=1, body=-1)
