"""Who is closed at the limit of connections to make room, and who never loses anything by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gthreadsrv.worker.drain import IDLE_GRACE_S
from tests.unit.worker.rig import GET, at_end, drained, get, hello

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from tests.unit.worker.rig import Clock, Rig

    MakeRig = Callable[..., Rig]


def newcomer(rig: Rig) -> socket.socket:
    """A client with a request that waits for room."""
    client = rig.connect()
    client.sendall(GET)
    rig.pump()
    return client


def test_a_client_that_was_busy_a_moment_ago_is_left_alone(make_rig: MakeRig, clock: Clock) -> None:
    """Its next request may be on the way; the newcomer waits until that cannot be any more."""
    rig = make_rig(worker_connections=2)
    busy = [rig.connect(), rig.connect()]
    for client in busy:
        rig.exchange(GET, client)
    waiting = newcomer(rig)
    assert rig.closed() == {}
    assert not rig.port.watched
    assert 0 < (rig.poller.timeout_s or 0) <= IDLE_GRACE_S

    clock.advance(IDLE_GRACE_S / 2)
    rig.exchange(GET, busy[0])
    clock.advance(IDLE_GRACE_S / 2)
    rig.pump()
    assert drained(waiting).endswith(b"hello")
    assert [at_end(client) for client in busy] == [False, True]


def test_one_that_has_not_spoken_is_left_alone_for_a_moment(
    make_rig: MakeRig, clock: Clock
) -> None:
    """Its first request leaves it together with the end of the handshake."""
    rig = make_rig(worker_connections=1)
    silent = rig.connect()
    rig.pump()
    waiting = newcomer(rig)
    clock.advance(0.05)
    rig.pump()
    assert not at_end(silent)

    clock.advance(0.06)
    rig.pump()
    assert drained(waiting).endswith(b"hello")
    assert at_end(silent)
    assert rig.closed() == {"limit": 1}


def test_an_answer_that_ends_its_connection_is_left_to_be_read(
    make_rig: MakeRig, clock: Clock
) -> None:
    """What a client sends behind a refusal would make a close a reset, which overtakes it."""
    rig = make_rig(worker_connections=1)
    refused = rig.connect()
    assert rig.exchange(b"BAD\r\n\r\n", refused).startswith(b"HTTP/1.1 400 ")
    refused.sendall(b"and more")
    waiting = newcomer(rig)
    assert drained(waiting) == b""

    clock.advance(IDLE_GRACE_S)
    rig.pump()
    assert drained(waiting).endswith(b"hello")
    assert rig.closed() == {"error": 1}


@pytest.mark.parametrize("head_s", [8.0, 2.0])
def test_slow_heads_make_room_when_others_wait(
    make_rig: MakeRig, clock: Clock, head_s: float
) -> None:
    """A crowd that says a byte now and then keeps nobody out; idle clients go before it."""
    rig = make_rig(worker_connections=3, header_timeout=head_s)
    slow = [rig.connect() for _ in range(2)]
    for client in slow:
        rig.exchange(b"GET / HT", client)
    idle = rig.connect()
    rig.exchange(GET, idle)
    clock.advance(1.0)
    for client in slow:
        rig.exchange(b"TP/1.1\r\n", client)
    assert drained(newcomer(rig)).endswith(b"hello")
    assert at_end(idle)
    assert drained(newcomer(rig)).endswith(b"hello")
    assert drained(slow[0]).startswith(b"HTTP/1.1 408 ")
    assert at_end(slow[0])
    assert rig.errors() == {"read_timeout": 1}
    assert len(rig.pool.connections) == 3


def test_a_head_whose_rest_has_come_is_not_slow(make_rig: MakeRig, clock: Clock) -> None:
    """The leader was away: that is no fault of the client's."""
    rig = make_rig(worker_connections=1)
    client = rig.connect()
    rig.exchange(GET[:10], client)
    clock.advance(5)
    waiting = rig.connect()
    waiting.sendall(GET)
    client.sendall(GET[10:])
    rig.pool.events.append((rig.port.fd, 1))
    rig.pump()
    assert drained(client).endswith(b"hello")


def test_a_body_may_be_slow_but_not_stand_still(make_rig: MakeRig, clock: Clock) -> None:
    """An upload is as slow as its client's line; without a byte in half its time it makes room."""
    rig = make_rig(worker_connections=2, body_timeout=10.0)
    slow, stuck = rig.connect(), rig.connect()
    for upload in (slow, stuck):
        rig.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nx", upload)
    clock.advance(4)
    rig.exchange(b"y", slow)
    waiting = newcomer(rig)
    clock.advance(0.9)
    rig.pump()
    assert drained(waiting) == b""
    clock.advance(0.2)
    rig.pump()
    assert drained(waiting).endswith(b"hello")
    assert drained(stuck).startswith(b"HTTP/1.1 408 ")
    assert at_end(stuck)
    assert rig.exchange(b"z", slow).endswith(b"hello")


def test_a_client_that_has_taken_nothing_for_half_its_time_makes_room(
    make_rig: MakeRig, clock: Clock
) -> None:
    """Of a response; it is counted as one that was cut."""

    def large(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        if environ["PATH_INFO"] == "/":
            return iter(hello(environ, start_response))
        start_response("200 OK", [])
        return iter([bytes(4 << 20)])

    rig = make_rig(large, worker_connections=1, write_timeout=10.0)
    reader = rig.connect()
    reader.sendall(get("/large"))
    rig.pump()
    waiting = newcomer(rig)
    clock.advance(4.9)
    rig.pump()
    assert drained(waiting) == b""
    clock.advance(0.2)
    rig.pump()
    assert b"hello" in drained(waiting)
    assert rig.closed() == {"limit": 1}
    assert rig.errors() == {"client_disconnect": 1}
