"""A request through the application: what is sent, counted and logged, and what comes next."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from gthreadsrv.worker import outbox as outbox_module
from gthreadsrv.worker.connection import State
from tests.unit.worker.rig import (
    GET,
    GET_CLOSE,
    at_end,
    drained,
    echo,
    get,
    hello,
    open_fds,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from tests.unit.worker.rig import Clock, Rig

    MakeRig = Callable[..., Rig]


class Body:
    """An iterable that says whether it was closed."""

    def __init__(self, pieces: list[Any], close_error: BaseException | None = None) -> None:
        self.pieces = pieces
        self.closed = 0
        self.close_error = close_error

    def __iter__(self) -> Iterator[Any]:
        for piece in self.pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def close(self) -> None:
        self.closed += 1
        if self.close_error is not None:
            raise self.close_error


def serving(body: Body, *headers: tuple[str, str], status: str = "200 OK") -> Any:
    """An application that answers with ``body``."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start_response(status, list(headers))
        return body

    return app


@pytest.mark.parametrize(
    "error",
    [ValueError("boom"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), RecursionError()],
    ids=lambda error: type(error).__name__,
)
def test_an_application_that_raises_gets_a_500_and_a_log_line(
    make_rig: MakeRig, error: BaseException
) -> None:
    """Whatever it raises: the thread lives, and the connection goes on."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] == "/bad":
            raise error
        return hello(environ, start_response)

    rig = make_rig(app)
    client = rig.connect()
    got = rig.exchange(get("/bad?q=1"), client)

    assert got.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert got.endswith(b"\r\n\r\nInternal Server Error\n")
    assert rig.errors() == {"application_error": 1}
    assert rig.log.fields("application failed")["target"] == "/bad?q=1"
    assert rig.exchange(GET, client).endswith(b"hello")
    assert rig.statuses() == {500: 1, 200: 1}


def test_the_page_for_developers_survives_an_exception_that_cannot_be_shown(
    make_rig: MakeRig,
) -> None:
    """It is the application's to be wrong, and its thread goes on."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        raise SyntaxError("m", ("page.html", "3", "4", 5))

    rig = make_rig(app, debug_errors=True)
    got = rig.exchange(GET)

    assert got.startswith(b"HTTP/1.1 500 ")
    assert b"\nSyntaxError: (cannot be shown" in got


def test_a_500_for_a_client_that_left_is_no_response(make_rig: MakeRig) -> None:
    """Both are counted: the application's failure, and the client's leaving."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        client.close()
        raise ValueError

    rig = make_rig(app)
    client = rig.connect()
    client.sendall(GET)
    rig.pump()

    assert rig.pool.connections == {}
    assert rig.errors() == {"application_error": 1, "client_disconnect": 1}
    assert rig.statuses() == {}
    assert rig.fleet().slots[0].threads_busy == 0


def test_a_500_to_head_has_no_body(make_rig: MakeRig) -> None:
    """The server's own answers follow the rules, too."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        raise ValueError

    rig = make_rig(app)
    got = rig.exchange(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")

    assert got.endswith(b"\r\n\r\n")
    assert rig.only().state is State.IDLE


@pytest.mark.parametrize(
    "body",
    [
        Body([ValueError("before the first byte")]),
        Body([b"", b"", ValueError("before the first byte that counts")]),
        Body(["text"]),
        Body([bytearray(b"x")]),
        Body([None]),
        Body([7]),
    ],
    ids=["raises", "raises-late", "text", "bytearray", "none", "number"],
)
def test_before_the_first_byte_a_failure_is_a_500(make_rig: MakeRig, body: Body) -> None:
    """Nothing has been promised yet, and close() is called."""
    rig = make_rig(serving(body))
    got = rig.exchange(GET)

    assert got.startswith(b"HTTP/1.1 500 ")
    assert got.count(b"HTTP/1.1") == 1
    assert body.closed == 1
    assert rig.only().state is State.IDLE


@pytest.mark.parametrize("failure", [ValueError("late"), "text", None])
@pytest.mark.parametrize("length", [None, "10"])
@pytest.mark.parametrize("minor", [b"0", b"1"])
def test_after_the_first_byte_a_failure_cuts_the_connection(
    make_rig: MakeRig, failure: Any, length: str | None, minor: bytes
) -> None:
    """Only so can the client see that the body is not whole."""
    body = Body([b"begin", failure])
    headers = [("Content-Length", length)] if length else []
    rig = make_rig(serving(body, *headers))
    client = rig.connect()
    got = rig.exchange(GET.replace(b"1.1", b"1." + minor), client)

    assert got.count(b"HTTP/1.1") == 1
    assert got.startswith(b"HTTP/1.1 200 ")
    assert not got.endswith(b"0\r\n\r\n")
    assert at_end(client)
    assert body.closed == 1
    assert rig.errors() == {"application_error": 1}
    assert rig.statuses() == {200: 1}
    assert rig.closed() == {"error": 1}


def test_a_client_that_has_gone_cannot_be_hidden_by_the_application(make_rig: MakeRig) -> None:
    """It swallows what write() raises, and its close() fails: still no response was given."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        write = start_response("200 OK", [])
        for _ in range(30):
            with suppress(OSError):
                write(bytes(100_000))
        return Body([b"and more"], close_error=ValueError("in close"))

    rig = make_rig(app)
    client = rig.connect()
    client.sendall(GET)
    client.close()
    rig.pump()

    assert rig.statuses() == {}
    assert rig.errors() == {"application_error": 1, "client_disconnect": 1}
    assert rig.closed() == {"client": 1}


def test_a_close_that_raises_ends_the_connection_but_not_the_thread(make_rig: MakeRig) -> None:
    """The response has left; the failure is logged and counted."""
    body = Body([b"whole"], close_error=ValueError("in close"))
    rig = make_rig(serving(body, ("Content-Length", "5")))
    client = rig.connect()
    got = rig.exchange(GET, client)

    assert got.endswith(b"\r\n\r\nwhole")
    assert at_end(client)
    assert rig.errors() == {"application_error": 1}


class Proxy:
    """A result that stands in for another, which is not to be had any more."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("outside of its context")


def test_a_close_that_cannot_be_looked_for_is_the_applications_failure(make_rig: MakeRig) -> None:
    """As one that raises; the thread, and with it the worker, goes on."""
    rig = make_rig(serving(Proxy([b"whole"]), ("Content-Length", "5")))
    client = rig.connect()

    assert rig.exchange(GET, client).endswith(b"\r\n\r\nwhole")
    assert at_end(client)
    assert rig.errors() == {"application_error": 1}


@pytest.mark.parametrize("early", [b"", b"begun"])
def test_a_write_after_a_failure_is_not_in_anothers_response(
    make_rig: MakeRig, early: bytes
) -> None:
    """A thread of the application's may have kept write() of a request that has failed since."""
    kept: list[Any] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] != "/fail":
            kept[0](b"of another")
            return hello(environ, start_response)
        kept.append(start_response("200 OK", []))
        if early:
            kept[0](early)
        raise ValueError("on purpose")

    rig = make_rig(app)
    client = rig.connect()
    first = rig.exchange(get("/fail"), client)
    kept[0](b"of another")
    assert b"of another" not in first + drained(client)
    if not early:
        assert first.startswith(b"HTTP/1.1 500 ")
        second = rig.exchange(GET, client)
        assert second.startswith(b"HTTP/1.1 200 ")
        assert second.endswith(b"\r\n\r\nhello")


def test_close_is_called_when_the_client_has_gone(make_rig: MakeRig) -> None:
    """And the request is counted as a disconnect, not as a response."""
    body = Body([bytes(100_000)] * 30)
    rig = make_rig(serving(body))
    client = rig.connect()
    client.sendall(GET)
    client.close()
    rig.pump()

    assert body.closed == 1
    assert rig.statuses() == {}
    assert rig.errors() == {"client_disconnect": 1}
    assert rig.closed() == {"client": 1}
    assert rig.fleet().slots[0].threads_busy == 0
    assert rig.log.lines == []


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_close_is_called_when_the_body_is_not_wanted(make_rig: MakeRig, method: str) -> None:
    """HEAD takes the first piece only; the rest is never asked for, so an endless one ends."""
    asked: list[int] = []

    class Endless(Body):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                asked.append(1)
                assert len(asked) < 10
                yield b"x" * 10

    body = Endless([])
    rig = make_rig(serving(body, ("Content-Length", "25")))
    got = rig.exchange(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())

    assert got.partition(b"\r\n\r\n")[2] == (b"x" * 25 if method == "GET" else b"")
    assert body.closed == 1
    assert rig.only().state is State.IDLE


def test_an_application_that_never_calls_start_response_fails(make_rig: MakeRig) -> None:
    """With a 500; its iterable is closed."""
    body = Body([b"x"])

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        return body

    rig = make_rig(app)

    assert rig.exchange(GET).startswith(b"HTTP/1.1 500 ")
    assert body.closed == 1


@pytest.mark.parametrize("result", [None, 5, "text", b"bytes", object()])
def test_an_application_that_returns_no_iterable_of_bytes_fails(
    make_rig: MakeRig, result: Any
) -> None:
    """With a 500, and the thread goes on."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        start_response("200 OK", [])
        return result

    rig = make_rig(app)

    assert rig.exchange(GET).startswith(b"HTTP/1.1 500 ")


def test_the_applications_own_connection_errors_are_not_the_clients(make_rig: MakeRig) -> None:
    """A database that went away is a 500, not a disconnect."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        raise ConnectionResetError("database")

    rig = make_rig(app)

    assert rig.exchange(GET).startswith(b"HTTP/1.1 500 ")
    assert rig.errors() == {"application_error": 1}


@pytest.mark.parametrize(
    ("headers", "pieces", "detail"),
    [
        ([("Content-Length", "3")], [b"abcdef"], "longer"),
        ([("Content-Length", "9")], [b"abcdef"], "3 bytes shorter"),
    ],
)
def test_a_body_that_does_not_fit_its_length_is_logged(
    make_rig: MakeRig, headers: list[tuple[str, str]], pieces: list[bytes], detail: str
) -> None:
    """Too long is cut, too short costs the connection."""
    rig = make_rig(serving(Body(pieces), *headers))
    client = rig.connect()
    rig.exchange(GET, client)

    assert detail in rig.log.fields("response does not fit its head")["detail"]
    assert at_end(client) == ("shorter" in detail)
    assert rig.closed() == ({"error": 1} if "shorter" in detail else {})


def test_hop_by_hop_fields_are_left_out_and_logged(make_rig: MakeRig) -> None:
    """They are the server's to write."""
    rig = make_rig(serving(Body([b"x"]), ("Transfer-Encoding", "gzip"), ("Upgrade", "h2c")))
    got = rig.exchange(GET)

    assert b"gzip" not in got
    assert b"h2c" not in got
    assert rig.log.fields("hop-by-hop header not sent")["headers"] == [
        "Transfer-Encoding", "Upgrade",
    ]  # fmt: skip


def test_an_application_may_end_the_connection(make_rig: MakeRig) -> None:
    """Connection: close is taken as an order."""
    rig = make_rig(serving(Body([b"x"]), ("Connection", "close")))
    client = rig.connect()
    got = rig.exchange(GET + GET, client)

    assert got.count(b"HTTP/1.1 200") == 1
    assert got.count(b"Connection: close") == 1
    assert at_end(client)
    assert rig.only().state is State.LINGERING


def test_http_1_0_is_closed_unless_it_asked_for_more(make_rig: MakeRig) -> None:
    """And is told when it gets more."""
    rig = make_rig()
    plain = rig.connect()
    got = rig.exchange(b"GET / HTTP/1.0\r\n\r\n", plain)
    assert b"Connection: close" in got
    assert at_end(plain)

    kept = rig.connect()
    got = rig.exchange(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", kept)
    assert b"Connection: keep-alive" in got
    assert not at_end(kept)


def test_a_response_is_counted_when_its_last_byte_has_left(make_rig: MakeRig, clock: Clock) -> None:
    """A slow reader's time is in the duration, not in the busy time."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        clock.advance(0.25)
        start_response("200 OK", [])
        return [bytes(2 << 20)]

    rig = make_rig(app)
    client = rig.connect()
    rig.exchange(GET, client)  # takes a first share
    assert rig.responses() == 0
    assert rig.fleet().slots[0].threads_busy == 0

    clock.advance(5.0)
    while rig.only().state is State.WRITING:
        drained(client)
        rig.pump()
    fleet = rig.fleet()
    (histogram,) = fleet.durations.values()
    assert histogram[0] == pytest.approx(5.25)
    assert fleet.application[0] == pytest.approx(0.25)
    assert fleet.slots[0].busy_s == pytest.approx(0.25)
    assert fleet.body_out == 2 << 20


def test_a_slow_response_that_ends_its_connection_does(make_rig: MakeRig) -> None:
    """After the last byte, lingering."""
    rig = make_rig(serving(Body([bytes(2 << 20)])))
    client = rig.connect()
    rig.exchange(GET_CLOSE, client)
    while rig.only().state is State.WRITING:
        drained(client)
        rig.pump()
    drained(client)

    assert rig.only().state is State.LINGERING
    assert at_end(client)
    assert rig.closed() == {"client": 1}


def test_a_client_that_leaves_in_a_slow_response_is_no_response(make_rig: MakeRig) -> None:
    """The poller finds out; descriptors of the outbox come back (the fixture counts)."""
    rig = make_rig(serving(Body([bytes(1 << 20)] * 4)))
    client = rig.connect()
    client.sendall(GET)
    rig.pump()
    assert rig.only().state is State.WRITING
    client.close()
    rig.pump()

    assert rig.pool.connections == {}
    assert rig.statuses() == {}
    assert rig.errors() == {"client_disconnect": 1}


def test_a_full_disk_behind_a_slow_reader_cuts_the_response(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be kept is missing, so the client must see that the body is not whole."""
    monkeypatch.setattr(outbox_module, "open_spool", lambda: open("/dev/full", "w+b"))
    before = open_fds()
    body = Body([bytes(1 << 20)] * 4)
    rig = make_rig(serving(body))
    client = rig.connect()
    client.sendall(GET)
    rig.pump()
    got = b""
    while rig.only().state is State.WRITING:
        got += drained(client)
        rig.pump()
    got += drained(client)

    assert at_end(client)
    assert not got.endswith(b"0\r\n\r\n")
    assert body.closed == 1
    assert rig.log.events("error") == ["application failed"]
    client.close()
    rig.pump()
    # The rig itself: listener, epoll and two pipes.
    assert open_fds() - before == 6


def test_bytes_in_and_out_are_those_of_the_bodies(make_rig: MakeRig) -> None:
    """Heads and chunk framing are not in them."""
    rig = make_rig(echo)
    rig.exchange(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    chunked = make_rig(serving(Body([b"abc", b"de"])))
    chunked.exchange(GET)
    closed = make_rig(serving(Body([b"abc", b"de"])))
    closed.exchange(b"GET / HTTP/1.0\r\n\r\n")

    assert (rig.fleet().body_in, rig.fleet().body_out) == (3, len("POST/|abc"))
    assert (chunked.fleet().body_in, chunked.fleet().body_out) == (0, 5)
    assert closed.fleet().body_out == 5


def test_a_file_is_sent_and_closed(make_rig: MakeRig, tmp_path: Path) -> None:
    """With wsgi.file_wrapper, whatever its size; descriptors come back."""
    rig_fds: list[int] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return environ["wsgi.file_wrapper"]((tmp_path / environ["PATH_INFO"][1:]).open("rb"))

    rig = make_rig(app)
    client = rig.connect()
    for size in (0, 10, 200_000, 5 << 20):
        content = os.urandom(size)
        (tmp_path / f"{size}").write_bytes(content)
        client.sendall(get(f"/{size}"))
        rig.pump()
        got = drained(client)
        while rig.only().state is State.WRITING:
            rig.pump()
            got += drained(client)
        head, _, body = got.partition(b"\r\n\r\n")
        assert b"Content-Length: %d" % size in head
        assert body == content
        rig_fds.append(open_fds())
    assert len(set(rig_fds)) == 1
