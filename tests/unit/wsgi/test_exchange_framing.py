"""Where a response's body ends: lengths kept and broken, no body at all, files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.wsgi.exchange import ClientGoneError
from gthreadsrv.wsgi.file_wrapper import FileWrapper
from tests.unit.wsgi.talk import Talk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


# -- framing --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, iter])
@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")],
)
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
    results: dict[str, Callable[[list[bytes]], Any]] = {"list": list, "tuple": tuple, "iter": iter}
    talk.send(results[kind](pieces))
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
            talk.sink.error = ClientGoneError("gone") if number == 2 else None
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


@pytest.mark.parametrize(
    ("declared", "body"), [("4", b"2345"), ("6", b"234567"), ("9", b"23456789")]
)
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
