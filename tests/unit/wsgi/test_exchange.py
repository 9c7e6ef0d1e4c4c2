"""start_response, write() and the iterable, to the letter of PEP 3333."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.http.request import RequestHead
from gthreadsrv.http.response import HeadEncoder, ResponseError
from gthreadsrv.wsgi.exchange import ClientGoneError, Exchange
from gthreadsrv.wsgi.file_wrapper import FileWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ENCODER = HeadEncoder("test")


class Sink:
    """Takes bytes as the wire does, and remembers each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.data = b""
        self.gone = False

    def _take(self, data: bytes) -> None:
        if self.gone:
            raise ClientGoneError("gone")
        self.data += data

    def send(self, data: bytes) -> None:
        self.calls.append(("send", len(data)))
        self._take(data)

    def send_pair(self, first: bytes, second: bytes) -> None:
        self.calls.append(("send_pair", len(first), len(second)))
        self._take(first + second)

    def send_file(self, head: bytes, fd: int, offset: int, count: int) -> None:
        import os

        self.calls.append(("send_file", count))
        self._take(head + os.pread(fd, count, offset))

    @property
    def head(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]


class Talk:
    """An exchange, its sink, and what the client sees."""

    def __init__(self, method: str = "GET", minor: int = 1, *, keep_alive: bool = True) -> None:
        head = RequestHead(method, "/", minor, [], -1, False, keep_alive, False, "/", "", b"a")
        self.sink = Sink()
        self.exchange = Exchange(head, self.sink, ENCODER, 0.0, keep_alive=keep_alive)
        self.start = self.exchange.start_response
        self.write = self.exchange.write
        self.send = self.exchange.send_result

    @property
    def chunks(self) -> bytes:
        """The body decoded from the chunked coding; it must be whole."""
        assert b"\r\nTransfer-Encoding: chunked" in self.sink.head
        body, out = self.sink.body, b""
        while True:
            size, _, body = body.partition(b"\r\n")
            length = int(size, 16)
            if not length:
                assert body == b"\r\n"
                return out
            out, body = out + body[:length], body[length:]
            assert body[:2] == b"\r\n"
            body = body[2:]


@pytest.fixture
def talk() -> Talk:
    return Talk()


def failing() -> Any:
    """exc_info of a caught exception."""
    try:
        raise KeyError("inside")
    except KeyError:
        return sys.exc_info()


# -- start_response -------------------------------------------------------------------------


def test_start_response_sends_nothing(talk: Talk) -> None:
    """PEP 3333: the head waits for the first byte of the body, or for its end."""
    talk.start("200 OK", [])

    assert talk.sink.data == b""
    assert not talk.exchange.started


def test_a_second_start_response_is_an_error(talk: Talk) -> None:
    """Without exc_info; before and after the head has left."""
    talk.start("200 OK", [])
    with pytest.raises(AssertionError, match="twice"):
        talk.start("200 OK", [])
    talk.write(b"x")
    with pytest.raises(AssertionError, match="twice"):
        talk.start("200 OK", [])


def test_exc_info_replaces_what_was_set(talk: Talk) -> None:
    """As long as nothing has been sent: the error page's status and headers count."""
    talk.start("200 OK", [("X-Old", "1")])
    talk.start("500 Oops", [("X-New", "1")], failing())
    talk.send([b"sorry"])

    assert talk.sink.head.startswith(b"HTTP/1.1 500 Oops\r\n")
    assert b"X-New" in talk.sink.head
    assert b"X-Old" not in talk.sink.head
    assert talk.exchange.code == 500


def test_exc_info_may_come_with_the_first_call(talk: Talk) -> None:
    """An application may fail before it has set anything."""
    talk.start("503 Later", [], failing())
    talk.send([b""])

    assert talk.exchange.code == 503


def test_exc_info_after_the_head_raises_the_applications_error(talk: Talk) -> None:
    """With its own traceback, as PEP 3333 requires."""
    talk.start("200 OK", [])
    talk.write(b"x")
    exc_info = failing()
    with pytest.raises(KeyError, match="inside") as caught:
        talk.start("500 Oops", [], exc_info)

    assert caught.value is exc_info[1]
    assert "failing" in [entry.name for entry in caught.traceback]
    assert talk.exchange.code == 200


def test_an_empty_exc_info_is_not_an_error(talk: Talk) -> None:
    """sys.exc_info() outside of an exception is (None, None, None)."""
    talk.start("200 OK", [])
    talk.start("201 Created", [], (None, None, None))
    talk.send([b"x"])

    assert talk.exchange.code == 201


def test_headers_are_those_of_the_call(talk: Talk) -> None:
    """PEP 3333 lets the server keep the list; what the application adds later must not count."""
    headers = [("X-One", "1")]
    talk.start("200 OK", headers)
    headers.append(("X-Two", "2"))
    talk.send([b""])

    assert b"X-Two" not in talk.sink.head


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200", []),
        ("204 No Content", [("X", "a\x80\xff")]),
        ("299 Sonderfall \xe4\xf6", []),
    ],
)
def test_what_may_be_sent_is_sent(
    talk: Talk, status: str, headers: list[tuple[str, str]]
) -> None:
    """Latin-1 throughout, and reasons of any kind, also none."""
    talk.start(status, headers)
    talk.send([])

    assert talk.exchange.started


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("", []),
        ("OK", []),
        ("2000 OK", []),
        ("200OK", []),
        ("100 Continue", []),
        ("101 Switching Protocols", []),
        ("600 x", []),
        (b"200 OK", []),
        (200, []),
        ("200 O\r\nX: y", []),
        ("200 OK", [("X", "a\r\nSet-Cookie: b")]),
        ("200 OK", [("X", "a\n b")]),
        ("200 OK", [("X\r\nY", "a")]),
        ("200 OK", [("X Y", "a")]),
        ("200 OK", [("X:", "a")]),
        ("200 OK", [("", "a")]),
        ("200 OK", [("X", "a\0")]),
        ("200 OK", [("X", "\u20ac")]),
        ("200 OK", [("X", 5)]),
        ("200 OK", [("X", b"a")]),
        ("200 OK", [("X", None)]),
        ("200 OK", [(b"X", "a")]),
        ("200 OK", [("Content-Length", "five")]),
        ("200 OK", [("Content-Length", "-1")]),
        ("200 OK", [("Content-Length", 5)]),
        ("200 OK", [("Content-Length", "1"), ("content-length", "2")]),
        ("200 OK", [("X",)]),
        ("200 OK", ["X: y"]),
    ],
)
def test_what_may_not_be_sent_leaves_nothing_on_the_wire(
    talk: Talk, status: Any, headers: Any
) -> None:
    """The error reaches the application's boundary, which can still answer with a 500."""
    with pytest.raises((ResponseError, AssertionError, ValueError, TypeError)):
        talk.start(status, headers)
        talk.send([b"body"])

    assert talk.sink.data == b""
    assert not talk.exchange.started


# -- write() --------------------------------------------------------------------------------


def test_write_sends_at_once(talk: Talk) -> None:
    """Each call leaves before the next; what the iterable gives comes after."""
    write = talk.start("200 OK", [])
    write(b"one")
    assert talk.sink.data.endswith(b"3\r\none\r\n")
    write(b"two")
    assert talk.sink.data.endswith(b"3\r\ntwo\r\n")
    talk.send([b"three"])

    assert talk.chunks == b"onetwothree"
    assert talk.exchange.sent == len(b"onetwothree")


def test_write_of_nothing_sends_the_head_only(talk: Talk) -> None:
    """An empty chunk would end the body."""
    write = talk.start("200 OK", [])
    write(b"")
    assert talk.exchange.started
    write(b"")
    write(b"x")
    talk.send([])

    assert talk.chunks == b"x"


@pytest.mark.parametrize("data", ["text", bytearray(b"x"), memoryview(b"x"), None, 5])
def test_write_takes_bytes_only(talk: Talk, data: Any) -> None:
    """Anything else is the application's mistake, and is told at the call."""
    write = talk.start("200 OK", [])
    with pytest.raises(TypeError, match="bytes"):
        write(data)
    assert talk.sink.data == b""


def test_write_is_held_to_the_content_length(talk: Talk) -> None:
    """A byte more would start the next response."""
    write = talk.start("200 OK", [("Content-Length", "5")])
    write(b"abc")
    write(b"defg")
    write(b"h")
    talk.send([b"i"])

    assert talk.sink.body == b"abcde"
    assert "longer" in talk.exchange.complaint
    assert talk.exchange.keep_alive
    assert talk.exchange.sent == 5


# -- iterables ------------------------------------------------------------------------------


def test_a_list_has_a_known_length(talk: Talk) -> None:
    """Nothing need be chunked, and a small response is one send."""
    talk.start("200 OK", [])
    talk.send([b"one", b"", b"two"])

    assert b"\r\nContent-Length: 6" in talk.sink.head
    assert talk.sink.body == b"onetwo"
    assert len(talk.sink.calls) == 1


@pytest.mark.parametrize("result", [[], (), [b""], [b"", b""], iter([]), iter([b"", b""])])
def test_nothing_has_length_zero(talk: Talk, result: Any) -> None:
    """Also where that is known at the end only."""
    talk.start("200 OK", [])
    talk.send(result)

    assert b"\r\nContent-Length: 0" in talk.sink.head
    assert talk.sink.body == b""
    assert talk.exchange.keep_alive


def test_a_large_list_is_not_joined(talk: Talk) -> None:
    """Its pieces go one by one, with one length."""
    pieces = [b"a" * 10_000, b"", b"b" * 100_000, b"c"]
    talk.start("200 OK", [])
    talk.send(pieces)

    assert b"\r\nContent-Length: 110001" in talk.sink.head
    assert talk.sink.body == b"".join(pieces)
    assert max(call[-1] for call in talk.sink.calls) <= 100_000


def test_a_large_piece_is_not_copied_behind_its_head(talk: Talk) -> None:
    """Head and body go to the kernel as two buffers."""
    talk.start("200 OK", [])
    talk.send([b"a" * 100_000])

    assert talk.sink.calls[0][0] == "send_pair"
    assert talk.sink.body == b"a" * 100_000


def test_a_generator_may_call_start_response_late(talk: Talk) -> None:
    """PEP 3333: before the first non-empty bytes is early enough."""

    def generate() -> Iterator[bytes]:
        yield b""
        yield b""
        talk.start("202 Accepted", [])
        yield b"x"

    talk.send(generate())

    assert talk.exchange.code == 202
    assert talk.chunks == b"x"


def test_a_generator_may_call_start_response_at_its_very_end(talk: Talk) -> None:
    """With a body of nothing."""

    def generate() -> Iterator[bytes]:
        yield b""
        talk.start("202 Accepted", [])

    talk.send(generate())

    assert talk.exchange.code == 202
    assert b"\r\nContent-Length: 0" in talk.sink.head


@pytest.mark.parametrize("result", [[b"x"], [], iter([b"x"]), iter([])])
def test_a_body_before_start_response_is_an_error(talk: Talk, result: Any) -> None:
    """There is no status to send."""
    with pytest.raises(AssertionError, match="before start_response"):
        talk.send(result)
    assert talk.sink.data == b""


def test_empty_chunks_never_reach_the_wire(talk: Talk) -> None:
    """In the chunked coding they would end the body."""
    talk.start("200 OK", [])
    talk.send(iter([b"a", b"", b"b", b""]))

    assert talk.chunks == b"ab"


def test_each_piece_leaves_before_the_next_is_asked_for(talk: Talk) -> None:
    """PEP 3333 forbids holding pieces back."""
    seen: list[bytes] = []

    def generate() -> Iterator[bytes]:
        for piece in (b"one", b"two", b"three"):
            seen.append(talk.sink.data)
            yield piece
        seen.append(talk.sink.data)

    talk.start("200 OK", [])
    talk.send(generate())

    assert seen[0] == b""
    assert [data[-len(piece) - 2 : -2] for data, piece in zip(
        seen[1:], (b"one", b"two", b"three"), strict=True
    )] == [b"one", b"two", b"three"]  # fmt: skip


class ListChild(list[bytes]):
    """A list whose iteration gives something else than its items."""

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"from ", b"iter"])


class BytesChild(bytes):
    """Bytes of a kind of its own."""


def test_a_subclass_of_list_is_iterated(talk: Talk) -> None:
    """Its length may not be its body's."""
    talk.start("200 OK", [])
    talk.send(ListChild([b"items"]))

    assert talk.chunks == b"from iter"


@pytest.mark.parametrize("wrap", [list, tuple, iter])
def test_a_subclass_of_bytes_is_bytes(talk: Talk, wrap: Callable[[Any], Any]) -> None:
    """In every kind of iterable, and in write()."""
    talk.start("200 OK", [])(BytesChild(b"a"))
    talk.send(wrap([BytesChild(b"b"), BytesChild(b"c")]))

    assert talk.chunks == b"abc"


@pytest.mark.parametrize("wrap", [list, tuple, iter])
@pytest.mark.parametrize("wrong", ["text", bytearray(b"x"), None, 5])
def test_other_items_are_an_error(talk: Talk, wrap: Callable[[Any], Any], wrong: Any) -> None:
    """A list with one is refused before a byte is sent; an iterator when its turn comes."""
    talk.start("200 OK", [])
    with pytest.raises(TypeError, match="not bytes"):
        talk.send(wrap([b"ok", wrong]))
    assert (talk.sink.data == b"") == (wrap is not iter)


def test_the_result_after_write_is_sent_after_it() -> None:
    """A list of any size no longer decides the framing."""
    for pieces in ([b"x"], [b"x", b"y"], [b"x" * 20_000, b"y"], []):
        talk = Talk()
        talk.start("200 OK", [])(b"first ")
        talk.send(pieces)
        assert talk.chunks == b"first " + b"".join(pieces)


# -- framing --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, iter])
@pytest.mark.parametrize(("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")])
def test_without_a_body_nothing_follows_the_head(
    method: str, status: str, kind: Callable[[Any], Any]
) -> None:
    """Whatever the application gives, by whatever way."""
    talk = Talk(method)
    talk.start(status, [])
    talk.send(kind([b"a" * 10_000, b"b" * 10_000]))
    written = Talk(method)
    written.start(status, [])(b"x")
    written.write(b"y")
    written.send([b"z"])

    for one in (talk, written):
        assert one.sink.body == b""
        assert one.exchange.sent == 0
        assert one.exchange.keep_alive
        assert one.exchange.complaint == ""
        assert b"chunked" not in one.sink.head


def test_head_has_the_length_get_would_have() -> None:
    """The application's, or that of a list; for a stream none."""
    for headers, result, length in (
        ([("Content-Length", "7")], [], b"7"),
        ([], [b"abc"], b"3"),
        ([], iter([b"abc"]), None),
        ([], [], None),
    ):
        talk = Talk("HEAD")
        talk.start("200 OK", headers)
        talk.send(result)
        found = [
            line[16:] for line in talk.sink.head.split(b"\r\n") if line[:16] == b"Content-Length: "
        ]
        assert found == ([length] if length is not None else [])
        assert talk.exchange.keep_alive


def test_head_of_an_endless_stream_takes_one_piece() -> None:
    """The stream is not run."""
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield b"x"

    talk = Talk("HEAD")
    talk.start("200 OK", [])
    talk.send(endless())

    assert taken == [1]


def test_a_stream_longer_than_its_length_is_not_run_on(talk: Talk) -> None:
    """What it gives would be thrown away, perhaps for ever."""
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield b"xx"

    talk.start("200 OK", [("Content-Length", "5")])
    talk.send(endless())

    assert talk.sink.body == b"xxxxx"
    assert len(taken) == 3
    assert "longer" in talk.exchange.complaint


@pytest.mark.parametrize("kind", [list, iter])
def test_a_body_shorter_than_its_length_costs_the_connection(
    talk: Talk, kind: Callable[[Any], Any]
) -> None:
    """The client must not wait for the rest on a connection that goes on."""
    talk.start("200 OK", [("Content-Length", "10")])
    talk.send(kind([b"abc"]))

    assert talk.sink.body == b"abc"
    assert "7 bytes shorter" in talk.exchange.complaint
    assert not talk.exchange.keep_alive


@pytest.mark.parametrize(("length", "kept"), [(None, False), ("5", True)])
def test_http_1_0_ends_an_unknown_length_by_a_close(length: str | None, kept: bool) -> None:  # noqa: FBT001
    """It knows no chunks."""
    talk = Talk(minor=0)
    talk.start("200 OK", [("Content-Length", length)] if length else [])
    talk.send(iter([b"ab", b"cde"]))

    assert talk.sink.body == b"abcde"
    assert talk.exchange.keep_alive is kept
    assert talk.exchange.sent == 5
    assert b"chunked" not in talk.sink.head


@given(
    st.lists(st.binary(max_size=40), max_size=6),
    st.lists(st.binary(max_size=40), max_size=3),
    st.sampled_from(["list", "tuple", "iter"]),
    st.sampled_from([0, 1]),
    st.one_of(st.none(), st.integers(0, 150)),
)
def test_what_is_framed_is_what_was_given(
    pieces: list[bytes], written: list[bytes], kind: str, minor: int, declared: int | None
) -> None:
    """By any mix of write() and iterable, under any framing; `sent` counts the body's bytes."""
    talk = Talk(minor=minor)
    headers = [] if declared is None else [("Content-Length", str(declared))]
    write = talk.start("200 OK", headers)
    for piece in written:
        write(piece)
    talk.send({"list": list, "tuple": tuple, "iter": iter}[kind](pieces))
    body = b"".join(written + pieces)

    chunked = b"chunked" in talk.sink.head
    got = talk.chunks if chunked else talk.sink.body
    if declared is None:
        assert got == body
        assert talk.exchange.complaint == ""
    else:
        assert got == body[:declared]
        assert bool(talk.exchange.complaint) == (len(body) != declared)
        assert talk.exchange.keep_alive == (len(body) >= declared)
    assert talk.exchange.sent == len(got)


def test_a_client_that_leaves_ends_the_iteration(talk: Talk) -> None:
    """No further piece is asked for."""
    taken: list[int] = []

    def generate() -> Iterator[bytes]:
        for number in range(10):
            taken.append(number)
            talk.sink.gone = number == 2
            yield b"x"

    talk.start("200 OK", [])
    with pytest.raises(ClientGoneError):
        talk.send(generate())
    assert taken == [0, 1, 2]


# -- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_a_file_goes_by_itself(talk: Talk, tmp_path: Path, size: int) -> None:
    """Its length is known; an empty one has length 0."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * size)
    talk.start("200 OK", [])
    with path.open("rb") as file:
        talk.send(FileWrapper(file))

    assert b"\r\nContent-Length: %d" % size in talk.sink.head
    assert talk.sink.body == b"x" * size
    assert talk.exchange.sent == size
    assert (talk.sink.calls[0][0] == "send_file") == (size > 0)


@pytest.mark.parametrize(("declared", "body"), [("4", b"2345"), ("6", b"234567"), ("9", b"23456789")])
def test_a_file_starts_where_it_stands_and_is_held_to_its_length(
    talk: Talk, tmp_path: Path, declared: str, body: bytes
) -> None:
    """A part of a file (a range) is sent as such, without a complaint; too short is told."""
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    talk.start("206 Partial", [("Content-Length", declared)])
    with path.open("rb") as file:
        file.seek(2)
        talk.send(FileWrapper(file))

    assert talk.sink.body == body
    assert bool(talk.exchange.complaint) == (declared == "9")
    assert talk.exchange.keep_alive == (declared != "9")


def test_a_file_after_write_is_iterated(talk: Talk, tmp_path: Path) -> None:
    """The framing is decided already."""
    path = tmp_path / "f"
    path.write_bytes(b"file")
    talk.start("200 OK", [])(b"first ")
    with path.open("rb") as file:
        talk.send(FileWrapper(file))

    assert talk.chunks == b"first file"


def test_head_of_a_file_sends_no_file(tmp_path: Path) -> None:
    """But its length."""
    path = tmp_path / "f"
    path.write_bytes(b"file")
    talk = Talk("HEAD")
    talk.start("200 OK", [])
    with path.open("rb") as file:
        talk.send(FileWrapper(file))

    assert talk.sink.body == b""
    assert b"\r\nContent-Length: 4" in talk.sink.head


def test_a_file_that_is_none_is_iterated(talk: Talk) -> None:
    """In blocks."""
    talk.start("200 OK", [])
    talk.send(FileWrapper(io.BytesIO(b"abcdef"), 4))

    assert talk.chunks == b"abcdef"


def test_a_file_before_start_response_is_an_error(talk: Talk, tmp_path: Path) -> None:
    """As any other body."""
    path = tmp_path / "f"
    path.write_bytes(b"file")
    with path.open("rb") as file, pytest.raises(AssertionError, match="before start_response"):
        talk.send(FileWrapper(file))
    assert talk.sink.data == b""
