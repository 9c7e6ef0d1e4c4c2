"""The leader's reading side: requests in any pieces, pipelined, with bodies, cut short."""

from __future__ import annotations

import io
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gthreadsrv.worker import upload
from gthreadsrv.worker.connection import State
from gthreadsrv.wsgi.exchange import Exchange
from tests.unit.worker.rig import GET, at_end, drained, echo, get, hello, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from tests.unit.worker.rig import Clock, Rig

    MakeRig = Callable[..., Rig]

POST = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde"
CHUNKED = (
    b"PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;x=y\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nX-Trailer: v\r\n\r\n"
)
MESSAGES = {
    GET: b"GET/|",
    POST: b"POST/p|abcde",
    CHUNKED: b"PUT/c|abc0123456789abcdef",
}
EXPECTING = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def bodies(data: bytes) -> list[bytes]:
    """The bodies of a run of responses with Content-Length."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        found.append(data[:length])
        data = data[length:]
    return found


@pytest.mark.parametrize("parser", ["h11", "httptools"])
@pytest.mark.parametrize("message", MESSAGES, ids=["get", "length", "chunked"])
def test_a_request_may_be_cut_at_any_byte(make_rig: MakeRig, message: bytes, parser: str) -> None:
    """Two reads give the same answer as one, wherever the first ends."""
    rig = make_rig(echo, parser=parser)
    for cut in range(1, len(message)):
        client = rig.connect()

        assert rig.exchange(message[:cut], client) == b""
        assert rig.only().state is State.READING
        assert bodies(rig.exchange(message[cut:], client)) == [MESSAGES[message]]
        assert rig.only().state is State.IDLE
        client.close()
        rig.pump()
    assert rig.closed() == {"client": len(message) - 1}
    assert rig.errors() == {}


@given(
    st.lists(st.sampled_from(list(MESSAGES)), min_size=1, max_size=6),
    st.lists(st.integers(0, 700), max_size=12),
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_pipelined_requests_may_be_cut_anyhow(
    make_rig: MakeRig, messages: list[bytes], cuts: list[int]
) -> None:
    """A run of requests gives its answers in order, whatever the reads held."""
    rig = make_rig(echo)
    stream = b"".join(messages)
    client = rig.connect()
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    got = b""
    for start, end in zip(edges, edges[1:], strict=False):
        got += rig.exchange(stream[start:end], client)

    assert bodies(got) == [MESSAGES[message] for message in messages]
    assert rig.only().state is State.IDLE
    assert rig.responses() == len(messages)


def test_byte_by_byte_is_one_request(make_rig: MakeRig) -> None:
    """A client may send each byte by itself."""
    rig = make_rig(echo)
    client = rig.connect()
    answers = [rig.exchange(CHUNKED[at : at + 1], client) for at in range(len(CHUNKED))]

    assert answers[:-1] == [b""] * (len(CHUNKED) - 1)
    assert bodies(answers[-1]) == [MESSAGES[CHUNKED]]


def test_a_hundred_pipelined_requests_in_one_read(make_rig: MakeRig) -> None:
    """All are answered, in order, with nothing left to do."""
    rig = make_rig(echo)
    got = rig.exchange(b"".join(get(f"/{n}") for n in range(100)))

    assert bodies(got) == [b"GET/%d|" % n for n in range(100)]
    assert rig.responses() == 100


def test_nothing_after_close_is_served(make_rig: MakeRig) -> None:
    """RFC 9112 9.6: what follows a request with Connection: close is not looked at."""
    rig = make_rig(echo)
    client = rig.connect()
    got = rig.exchange(get("/1", "Connection: close") + get("/2"), client)

    assert bodies(got) == [b"GET/1|"]
    assert at_end(client)


def test_a_request_behind_a_slow_response_is_served_and_the_leader_rests(
    make_rig: MakeRig,
) -> None:
    """After a response that needed the poller, the connection is watched for reading again."""
    big = bytes(4 << 20)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        return [big if environ["PATH_INFO"] == "/big" else b"small"]

    for pace_s in (0.0, 1.0):  # the second request inline, and by way of a hand-over
        rig = make_rig(app)
        client = rig.connect()
        client.sendall(get("/big") + get("/small"))
        rig.pump()
        assert rig.only().state is State.WRITING
        got = b""
        while rig.only().state is not State.IDLE:
            rig.pool.pace_s = pace_s
            got += drained(client)
            rig.pump()

        assert len(bodies(got + drained(client))) == 2
        assert rig.responses() == 2
        assert bodies(rig.exchange(get("/small"), client)) == [b"small"]


def test_small_bodies_stay_in_memory_and_large_ones_go_to_a_file(make_rig: MakeRig) -> None:
    """1 MiB is the limit of memory; the file is gone with the request."""
    seen: list[tuple[type, int]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        body: Any = environ["wsgi.input"]
        size = len(body.read())
        assert environ["CONTENT_LENGTH"] == str(size)
        assert body.read() == b""
        seen.append((type(body), size))
        start_response("200 OK", [])
        return []

    rig = make_rig(app)
    client = rig.connect()
    fds = len(os.listdir("/proc/self/fd"))
    for size in (1, upload.MEMORY_MAX_BYTES, upload.MEMORY_MAX_BYTES + 1, 3 << 20):
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
        sent = rig.exchange(head, client)
        piece = bytes(100_000)
        for at in range(0, size, len(piece)):
            sent += rig.exchange(piece[: size - at], client)
        assert sent.startswith(b"HTTP/1.1 200 OK")

    kinds = [kind is io.BytesIO for kind, _ in seen]
    assert kinds == [True, True, False, False]
    assert [size for _, size in seen] == [1, 1 << 20, (1 << 20) + 1, 3 << 20]
    # One for the connection itself.
    assert len(os.listdir("/proc/self/fd")) == fds + 1


def test_a_chunked_body_has_its_length_when_the_application_runs(make_rig: MakeRig) -> None:
    """The decoded length is CONTENT_LENGTH; the transfer coding is not passed on."""
    seen: list[WSGIEnvironment] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        seen.append(environ)
        return hello(environ, start_response)

    make_rig(app).exchange(CHUNKED)

    assert seen[0]["CONTENT_LENGTH"] == "19"
    assert "HTTP_TRANSFER_ENCODING" not in seen[0]


def test_a_body_of_no_bytes_is_complete_with_its_head(make_rig: MakeRig) -> None:
    """Content-Length: 0 waits for nothing."""
    rig = make_rig(echo)
    got = rig.exchange(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")

    assert bodies(got) == [b"POST/p|"]


def test_expect_is_answered_before_the_body(make_rig: MakeRig) -> None:
    """100 (Continue) leaves once the head is accepted, and then the body is awaited."""
    rig = make_rig(echo)
    client = rig.connect()

    assert rig.exchange(EXPECTING, client) == CONTINUE
    assert rig.exchange(b"ab", client) == b""
    assert bodies(rig.exchange(b"c", client)) == [b"POST/|abc"]


def test_expect_is_not_answered_when_the_body_came_along(make_rig: MakeRig) -> None:
    """RFC 9110 10.1.1: a server may leave 100 out when it has begun to get the body."""
    assert bodies(make_rig(echo).exchange(EXPECTING + b"abc")) == [b"POST/|abc"]


def test_a_client_that_left_before_its_100_is_lost(make_rig: MakeRig) -> None:
    """Quietly: it is counted as a disconnect."""
    rig = make_rig(echo)
    client = rig.connect()
    client.sendall(EXPECTING)
    client.close()
    rig.pump()

    assert rig.pool.connections == {}
    assert rig.errors() == {"client_disconnect": 1}
    assert rig.statuses() == {}


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n6\r\n",
    ],
    ids=["expect", "length", "chunked"],
)
def test_a_body_over_the_limit_is_refused_at_once(make_rig: MakeRig, head: bytes) -> None:
    """413 comes instead of 100 (Continue), and without waiting for the body."""
    rig = make_rig(echo, limit_request_body=10)
    client = rig.connect()
    got = rig.exchange(head, client)

    assert got.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nConnection: close\r\n" in got
    assert at_end(client)
    assert rig.errors() == {"body_too_large": 1}
    assert rig.statuses() == {413: 1}


def test_the_end_of_stream_in_a_head_is_no_request(make_rig: MakeRig) -> None:
    """A head cut short is never given to the application, and gets no answer."""
    rig = make_rig(echo)
    client = rig.connect()
    client.sendall(GET[:-1])
    client.shutdown(socket.SHUT_WR)
    rig.pump()

    assert client.recv(100) == b""
    assert rig.pool.connections == {}
    assert rig.errors() == {"client_disconnect": 1}
    assert rig.closed() == {"client": 1}
    assert rig.statuses() == {}


@pytest.mark.parametrize("cut", [POST[:-1], CHUNKED[:-2]], ids=["length", "chunked"])
@pytest.mark.parametrize("together", [True, False])
def test_the_end_of_stream_in_a_body_is_no_request(
    make_rig: MakeRig, cut: bytes, *, together: bool
) -> None:
    """RFC 9112 8: a body cut short is never given to the application as whole."""
    rig = make_rig(echo)
    client = rig.connect()
    client.sendall(cut)
    if not together:
        rig.pump()
    client.shutdown(socket.SHUT_WR)
    rig.pump()

    assert client.recv(100) == b""
    assert rig.errors() == {"client_disconnect": 1}
    assert rig.statuses() == {}


def test_a_spilled_upload_cut_short_leaves_no_file(make_rig: MakeRig) -> None:
    """The temporary file goes with the connection (the fixture counts descriptors)."""
    rig = make_rig(echo)
    client = rig.connect()
    rig.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n", client)
    for _ in range(12):
        rig.exchange(bytes(100_000), client)
    held = rig.only().upload
    assert held is not None
    assert held._file is not None
    client.close()
    rig.pump()

    assert held._file.closed
    assert rig.pool.connections == {}


def test_half_a_close_after_the_request_still_gets_the_answer(make_rig: MakeRig) -> None:
    """A client may shut its side once its request is out."""
    rig = make_rig(echo)
    client = rig.connect()
    client.sendall(POST)
    client.shutdown(socket.SHUT_WR)
    rig.pump()

    assert bodies(drained(client)) == [b"POST/p|abcde"]
    assert rig.closed() == {"client": 1}
    assert rig.errors() == {}


def test_an_idle_client_that_leaves_is_no_failed_request(make_rig: MakeRig) -> None:
    """Neither a close nor a reset between requests counts as a request gone wrong."""
    rig = make_rig(echo)
    polite = rig.connect()
    rig.exchange(GET, polite)
    polite.close()
    rude = rig.connect()
    rude.sendall(GET)
    rig.pump()
    rude.close()  # with the answer unread, which is a reset
    silent = rig.connect()
    rig.pump()
    silent.close()
    rig.pump()

    assert rig.pool.connections == {}
    assert rig.closed() == {"client": 3}
    assert rig.errors() == {}


def test_a_reset_in_a_request_is_a_failed_one(make_rig: MakeRig) -> None:
    """A client that resets with half a request out is counted as disconnected."""
    rig = make_rig(echo, tcp=True)
    client = rig.connect()
    client.sendall(GET[:-4])
    wait_until(lambda: rig.pump() or rig.pool.connections, "the connection is accepted")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    wait_until(lambda: rig.pump() or not rig.pool.connections, "the reset is seen")

    assert rig.errors() == {"client_disconnect": 1}


def test_disk_full_in_an_upload_is_a_500(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that cannot be stored is answered, whenever the disk says so."""
    full = open("/dev/full", "w+b")  # noqa: SIM115 - closed by the code under test
    monkeypatch.setattr(upload, "open_spool", lambda: full)
    room_is_back: list[bool] = []

    class Answer(Exchange):
        def start_response(self, *args: Any) -> Any:
            room_is_back.append(full.closed)
            return super().start_response(*args)

    monkeypatch.setattr("gthreadsrv.worker.service.Exchange", Answer)
    rig = make_rig(echo)
    client = rig.connect()
    size = upload.MEMORY_MAX_BYTES + 10
    got = rig.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size, client)
    for at in range(0, size, 65536):
        got += rig.exchange(bytes(min(65536, size - at)), client)
        if got:
            break

    assert got.startswith(b"HTTP/1.1 500 ")
    # Before the answer: a client that tries a smaller one next finds the room.
    assert room_is_back == [True]
    assert rig.log.events("error") == ["request body cannot be stored"]
    assert rig.statuses() == {500: 1}
    assert at_end(client)


def test_disk_full_only_when_the_file_is_flushed_is_a_500(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last bytes reach the disk when the file is rewound: that must not end the thread."""
    full = open("/dev/full", "w+b", buffering=4 << 20)  # noqa: SIM115
    monkeypatch.setattr(upload, "open_spool", lambda: full)
    called: list[int] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        called.append(1)
        return hello(environ, start_response)

    rig = make_rig(app)
    client = rig.connect()
    size = upload.MEMORY_MAX_BYTES + 10
    got = rig.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size, client)
    for at in range(0, size, 65536):
        got += rig.exchange(bytes(min(65536, size - at)), client)

    assert got.startswith(b"HTTP/1.1 500 ")
    assert not called
    assert full.closed


def test_bytes_from_the_next_request_never_reach_the_body(make_rig: MakeRig) -> None:
    """A body ends where its framing says, in the middle of a read."""
    rig = make_rig(echo)
    got = rig.exchange(POST + CHUNKED + POST + GET)

    assert bodies(got) == [MESSAGES[one] for one in (POST, CHUNKED, POST, GET)]


def test_tcp_is_read_with_arrival_times(make_rig: MakeRig) -> None:
    """On TCP each read knows when the kernel got its bytes; queue time comes from there."""
    rig = make_rig(echo, tcp=True)
    client = rig.connect()

    def stamped() -> bool:
        client.sendall(GET)
        done = rig.responses()
        wait_until(lambda: rig.pump() or rig.responses() > done, "an answer")
        return sum(rig.fleet().queue["kernel"][1:]) > 0

    # The kernel switches timestamps on for their first user, a moment after it asks.
    wait_until(stamped, "arrival times")
    queue = rig.fleet().queue
    assert sum(queue["kernel"][1:]) + sum(queue["user"][1:]) == rig.responses()


def test_a_pipelined_request_waits_since_the_read_that_brought_it(
    make_rig: MakeRig, clock: Clock
) -> None:
    """On a unix socket its queue time holds the requests before it."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        clock.advance(0.2)
        return hello(environ, start_response)

    rig = make_rig(app)
    rig.exchange(GET * 3)
    user = rig.fleet().queue["user"]

    assert user[0] == pytest.approx(0.0 + 0.2 + 0.4)
