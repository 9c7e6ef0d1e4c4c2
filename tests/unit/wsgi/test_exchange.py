"""start_response, write() and the iterable, to the letter of PEP 3333."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from gthreadsrv.http.response import ResponseError
from gthreadsrv.wsgi.exchange import ClientGoneError
from tests.unit.wsgi.talk import Talk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
def test_what_may_be_sent_is_sent(talk: Talk, status: str, headers: list[tuple[str, str]]) -> None:
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


@pytest.mark.parametrize("length", [None, "9"])
def test_a_piece_that_was_lost_leaves_the_body_unfinished(talk: Talk, length: str | None) -> None:
    """An application that catches the error and goes on cannot make the body look whole."""
    write = talk.start("200 OK", [("Content-Length", length)] if length else [])
    write(b"one")
    talk.sink.error = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space"):
        write(b"two")
    talk.sink.error = None
    before = talk.sink.data
    write(b"three")
    talk.send([b"four"])

    assert talk.sink.data == before
    assert not talk.exchange.keep_alive
    assert "lost" in talk.exchange.complaint


@pytest.mark.parametrize("length", ["4", None])
@pytest.mark.parametrize("wrap", [list, iter], ids=["list", "iterator"])
def test_a_write_after_the_end_sends_nothing(
    talk: Talk, wrap: Callable[[Any], Any], length: str | None
) -> None:
    """An application that has kept write() would speak in another response."""
    talk.start("200 OK", [] if length is None else [("Content-Length", length)])
    talk.send(wrap([b"body"]))
    whole = talk.sink.data

    talk.write(b"more")

    assert talk.sink.data == whole
    assert talk.exchange.sent == 4


def test_a_client_that_left_is_noticed_again_after_a_caught_write(talk: Talk) -> None:
    """So that the request counts as a disconnect, whatever the application catches."""
    write = talk.start("200 OK", [])
    write(b"one")
    talk.sink.error = ClientGoneError("gone")
    with pytest.raises(ClientGoneError):
        write(b"two")
    with pytest.raises(ClientGoneError):
        talk.send([])


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
