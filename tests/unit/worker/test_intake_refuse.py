"""What does not become a request: refusals, lingering, and waits that last too long."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from gthreadsrv.worker.connection import State
from gthreadsrv.worker.drain import IDLE_GRACE_S
from gthreadsrv.worker.patience import BODY_BYTES_PER_S
from gthreadsrv.worker.sweep import SWEEP_PAUSE_S
from gthreadsrv.worker.sweep import sweep as sweep_once
from gthreadsrv.worker.wire import Wire
from tests.unit.worker.rig import GET, at_end, drained, get, hello, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from tests.unit.worker.rig import Clock, Rig

    MakeRig = Callable[..., Rig]

BAD = b"GET / HTTP/1.1\r\nHost: a\r\nbad line\r\n\r\n"
POST_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"


def sweep(rig: Rig) -> None:
    """What the watchdog does when a deadline has passed."""
    rig.pool.poke()
    rig.pump()


@pytest.mark.parametrize("parser", ["h11", "httptools"])
@pytest.mark.parametrize("cut", [None, 5, 20])
def test_a_refusal_is_answered_counted_and_logged(
    make_rig: MakeRig, parser: str, cut: int | None
) -> None:
    """It takes the normal way out: a whole response, a count, a log line, and a close."""
    rig = make_rig(parser=parser)
    client = rig.connect()
    if cut is not None:
        rig.exchange(BAD[:cut], client)
    got = rig.exchange(BAD[cut or 0 :], client)

    assert got.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nDate: " in got
    assert b"\r\nConnection: close\r\n" in got
    assert at_end(client)
    assert rig.statuses() == {400: 1}
    assert rig.errors() == {"bad_request": 1}
    assert rig.closed() == {"error": 1}
    assert rig.log.fields("request refused")["status"] == 400


def test_a_refusal_behind_good_requests_comes_after_their_answers(make_rig: MakeRig) -> None:
    """Pipelined: what was right is answered, what was wrong is refused, the rest ignored."""
    rig = make_rig()
    got = rig.exchange(GET + BAD + GET)

    assert got.count(b"HTTP/1.1 200") == 1
    assert got.count(b"HTTP/1.1") == 2
    assert got.index(b"HTTP/1.1 200") < got.index(b"HTTP/1.1 400")
    assert rig.only().state is State.LINGERING


def test_a_refusal_that_the_client_cannot_take_yet_is_sent_later(make_rig: MakeRig) -> None:
    """A client that has not read the earlier answers still gets the refusal, whole."""
    rig = make_rig()
    client = rig.connect()
    rig.exchange(GET, client)
    # Fill the way to the client; on a unix socket that is the sender's buffer.
    connection = rig.only()
    filler = 0
    try:
        while True:
            filler += connection.sock.send(bytes(65536))
    except BlockingIOError:
        pass
    client.sendall(BAD)
    rig.pump()
    assert connection.state is State.WRITING
    assert rig.statuses() == {200: 1}

    got = drained(client)
    rig.pump()
    got += drained(client)

    assert got[filler:].startswith(b"HTTP/1.1 400 ")
    assert got.endswith(b"400 Bad Request\n")
    assert at_end(client)
    assert rig.statuses() == {200: 1, 400: 1}
    assert rig.closed() == {"error": 1}


def test_a_refusal_for_a_client_that_left_is_counted_as_a_refusal(make_rig: MakeRig) -> None:
    """The request was wrong, whoever waits for the answer; but there was no response."""
    rig = make_rig()
    client = rig.connect()
    client.sendall(BAD)
    client.close()
    rig.pump()

    assert rig.pool.connections == {}
    assert rig.errors() == {"bad_request": 1}
    assert rig.closed() == {"client": 1}
    assert rig.statuses() == {}


def test_a_client_that_cannot_be_told_the_end_is_not_waited_for(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where our side cannot be shut the connection has gone, and lingering is for nobody."""
    monkeypatch.setattr(Wire, "shut", lambda _wire: False)
    rig = make_rig()
    rig.exchange(BAD)

    assert rig.pool.connections == {}
    assert rig.closed() == {"error": 1}


def test_a_refusal_that_is_never_taken_times_out(make_rig: MakeRig, clock: Clock) -> None:
    """It holds its connection no longer than any response."""
    rig = make_rig(write_timeout=60.0)
    client = rig.connect()
    rig.exchange(GET, client)
    try:
        while True:
            rig.only().sock.send(bytes(65536))
    except BlockingIOError:
        pass
    client.sendall(BAD)
    rig.pump()
    clock.advance(59)
    sweep(rig)
    assert rig.closed() == {}

    clock.advance(2)
    sweep(rig)
    assert rig.closed() == {"timeout": 1}
    assert rig.statuses() == {200: 1}


def test_what_follows_a_refusal_is_thrown_away_and_resets_nothing(make_rig: MakeRig) -> None:
    """RFC 9112 9.6: a client that goes on sending can still read why it was refused."""
    rig = make_rig(tcp=True, limit_request_body=100)
    client = rig.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n")
    wait_until(lambda: rig.pump() or rig.statuses(), "the refusal")
    for _ in range(3):
        client.sendall(bytes(50_000))
        rig.pump()
    client.shutdown(socket.SHUT_WR)
    wait_until(lambda: rig.pump() or not rig.pool.connections, "the client's end")
    got = b""
    while data := client.recv(65536):
        got += data

    assert got.startswith(b"HTTP/1.1 413 ")
    assert got.endswith(b"\n")


def test_lingering_has_an_end_in_bytes(make_rig: MakeRig) -> None:
    """A client that sends for ever is cut after 256 KiB."""
    rig = make_rig()
    client = rig.connect()
    rig.exchange(BAD, client)
    client.setblocking(False)
    sent = 0
    while rig.pool.connections:
        sent += client.send(bytes(32768))
        rig.pump()

    assert 256 * 1024 <= sent <= 320 * 1024


def test_lingering_has_an_end_in_time(make_rig: MakeRig, clock: Clock) -> None:
    """A client that never closes is let go of after two seconds, and counted once."""
    rig = make_rig()
    rig.exchange(BAD)
    clock.advance(1.9)
    sweep(rig)
    assert len(rig.pool.connections) == 1

    clock.advance(0.2)
    sweep(rig)
    assert rig.pool.connections == {}
    assert sum(rig.closed().values()) == 1
    assert rig.closed()["error"] == 1


def test_a_close_that_was_asked_for_does_not_linger(make_rig: MakeRig) -> None:
    """The client said it would send nothing more."""
    rig = make_rig()
    rig.exchange(get("/", "Connection: close"))

    assert rig.pool.connections == {}
    assert rig.closed() == {"client": 1}


def test_bytes_behind_a_close_make_it_linger(make_rig: MakeRig) -> None:
    """Unread bytes at the close would reset the connection."""
    rig = make_rig()
    rig.exchange(get("/", "Connection: close") + GET)

    assert rig.only().state is State.LINGERING


def test_an_idle_connection_ends_after_keep_alive(make_rig: MakeRig, clock: Clock) -> None:
    """Without a word: neither one kept alive nor one that never spoke gets a 408."""
    rig = make_rig(keepalive=75.0)
    spoke = rig.connect()
    rig.exchange(GET, spoke)
    silent = rig.connect()
    rig.pump()
    clock.advance(74.9)
    sweep(rig)
    assert len(rig.pool.connections) == 2

    clock.advance(0.2)
    sweep(rig)
    clock.advance(SWEEP_PAUSE_S)
    rig.pump()
    assert rig.pool.connections == {}
    assert drained(spoke) == b""
    assert drained(silent) == b""
    assert rig.closed() == {"keepalive_timeout": 2}
    assert rig.errors() == {}


def test_a_head_must_come_within_its_time_however_it_drips(make_rig: MakeRig, clock: Clock) -> None:
    """The time runs from the first byte: a byte a second gains nothing."""
    rig = make_rig(header_timeout=10.0)
    client = rig.connect()
    for byte in range(10):
        rig.exchange(GET[byte : byte + 1], client)
        clock.advance(1)
        assert drained(client) == b""
    sweep(rig)
    got = drained(client)

    assert got.startswith(b"HTTP/1.1 408 ")
    assert at_end(client)
    assert rig.errors() == {"read_timeout": 1}
    assert "head" in rig.log.fields("request refused")["detail"]


def test_a_body_must_not_stand_still(make_rig: MakeRig, clock: Clock) -> None:
    """The time runs from the last byte: a slow upload is no dead one."""
    rig = make_rig(body_timeout=30.0)
    client = rig.connect()
    rig.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", client)
    for _ in range(9):
        clock.advance(29)
        sweep(rig)
        assert rig.exchange(b"x" * 29 * BODY_BYTES_PER_S, client) == b""
    clock.advance(30)
    sweep(rig)

    assert drained(client).startswith(b"HTTP/1.1 408 ")
    assert "body" in rig.log.fields("request refused")["detail"]


def test_the_next_head_has_its_own_time_after_a_slow_request(
    make_rig: MakeRig, clock: Clock
) -> None:
    """Half a pipelined head is not late because the request before it took long."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            # The rest of the next request arrives meanwhile.
            client.sendall(GET[10:20])
            clock.advance(60)
        return hello(environ, start_response)

    rig = make_rig(app, header_timeout=10.0)
    client = rig.connect()
    client.sendall(get("/slow") + GET[:10])
    rig.pool.poke()
    rig.pump()
    sweep(rig)
    assert drained(client).count(b"HTTP/1.1 200") == 1
    assert rig.only().state is State.READING

    clock.advance(9)
    sweep(rig)
    assert rig.exchange(GET[20:], client).startswith(b"HTTP/1.1 200")


def test_a_body_that_trickles_is_given_up(make_rig: MakeRig, clock: Clock) -> None:
    """No pause is too long, and yet it will never end; at the least rate it may go on."""
    rig = make_rig(header_timeout=10.0, body_timeout=30.0)
    slow, steady = rig.connect(), rig.connect()
    for client in (slow, steady):
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
    rig.pump()
    for _ in range(5):
        clock.advance(10)
        sweep(rig)
        slow.sendall(b"x")
        steady.sendall(b"x" * 10 * BODY_BYTES_PER_S)
        rig.pump()

    assert drained(slow).startswith(b"HTTP/1.1 408 ")
    assert drained(steady) == b""
    assert rig.errors() == {"read_timeout": 1}


def test_the_next_body_has_its_own_time_after_a_slow_request(
    make_rig: MakeRig, clock: Clock
) -> None:
    """The same for a pipelined body."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            clock.advance(60)
        return hello(environ, start_response)

    rig = make_rig(app, body_timeout=30.0)
    client = rig.connect()
    client.sendall(get("/slow") + POST_HEAD + b"abc")
    rig.pump()
    sweep(rig)
    assert rig.only().state is State.READING

    clock.advance(29)
    sweep(rig)
    assert rig.exchange(b"defghij", client).endswith(b"hello")


def test_a_late_head_after_a_slow_request_is_still_late(make_rig: MakeRig, clock: Clock) -> None:
    """Its own time is no longer than that of any other head."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        clock.advance(60)
        return hello(environ, start_response)

    rig = make_rig(app, header_timeout=10.0)
    client = rig.connect()
    rig.exchange(GET + GET[:10], client)
    clock.advance(10)
    sweep(rig)

    assert drained(client).startswith(b"HTTP/1.1 408 ")


def test_a_response_nobody_takes_times_out(make_rig: MakeRig, clock: Clock) -> None:
    """From the last byte taken, not the first: a slow client is no dead one."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        return [bytes(8 << 20)]

    rig = make_rig(app, write_timeout=60.0)
    client = rig.connect()
    rig.exchange(GET, client)
    for _ in range(3):
        clock.advance(59)
        sweep(rig)
        drained(client)
        rig.pump()
    assert rig.only().state is State.WRITING

    clock.advance(60)
    sweep(rig)
    assert rig.pool.connections == {}
    assert rig.closed() == {"timeout": 1}
    assert rig.statuses() == {}


def test_a_sweep_leaves_a_running_request_alone(make_rig: MakeRig, clock: Clock) -> None:
    """A connection's old deadline says nothing while a thread has it."""
    rig = make_rig(keepalive=5.0)
    client = rig.connect()
    rig.exchange(GET, client)
    connection = rig.only()
    connection.move(State.ACTIVE)
    clock.advance(100)
    sweep(rig)

    assert connection.state is State.ACTIVE
    assert list(rig.pool.connections.values()) == [connection]


def test_the_sweep_knows_when_the_next_one_is_due(make_rig: MakeRig, clock: Clock) -> None:
    """`earliest` is never after any deadline, and far off when there is none."""
    rig = make_rig(keepalive=50.0)
    rig.exchange(GET)
    clock.advance(20)
    rig.exchange(GET)
    deadlines = [one.deadline for one in rig.pool.connections.values()]
    assert rig.pool.earliest <= min(deadlines)

    clock.advance(30)
    sweep(rig)
    assert rig.pool.earliest == max(deadlines)

    clock.advance(20)
    sweep(rig)
    assert rig.pool.earliest == float("inf")


def test_a_request_that_comes_at_the_last_moment_is_served(make_rig: MakeRig, clock: Clock) -> None:
    """The leader may have been away for longer than keep-alive: what waits was in time."""
    rig = make_rig(keepalive=5.0)
    client = rig.connect()
    rig.exchange(GET, client)
    clock.advance(5.1)
    client.sendall(GET)
    sweep_once(rig.pool, rig.service, rig.intake._handshakes, clock())

    assert rig.exchange(b"", client).startswith(b"HTTP/1.1 200 ")
    assert rig.closed() == {}


def test_room_is_not_made_by_a_client_whose_request_waits(make_rig: MakeRig, clock: Clock) -> None:
    """Idle it is only for those who have not looked."""
    rig = make_rig(worker_connections=2)
    asking, idle = rig.connect(), rig.connect()
    rig.exchange(GET, asking)
    rig.exchange(GET, idle)
    asking.sendall(GET)
    clock.advance(IDLE_GRACE_S)
    assert rig.intake._room.make(clock())

    assert at_end(idle)
    assert rig.exchange(b"", asking).startswith(b"HTTP/1.1 200 ")


def test_a_crowd_that_is_late_together_is_ended_in_turns(make_rig: MakeRig, clock: Clock) -> None:
    """A thousand refusals in a row would keep everybody else waiting."""
    rig = make_rig(header_timeout=5.0)
    late = [rig.connect() for _ in range(6)]
    for client in late:
        rig.exchange(GET[:10], client)
    clock.advance(5.1)
    sweep(rig)
    assert rig.errors() == {"read_timeout": 1}

    assert rig.exchange(GET).startswith(b"HTTP/1.1 200 ")
    assert rig.errors() == {"read_timeout": 1}
    for ended in range(2, 7):
        clock.advance(SWEEP_PAUSE_S)
        rig.pump()
        assert rig.errors() == {"read_timeout": ended}
    for client in late:
        assert drained(client).startswith(b"HTTP/1.1 408 ")


def test_the_larger_the_crowd_the_more_are_ended_in_a_turn(
    make_rig: MakeRig, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand at a fixed pace would outlive their time by a minute."""
    monkeypatch.setattr("gthreadsrv.worker.sweep.SWEEP_SHARE", 4)
    rig = make_rig(header_timeout=5.0)
    for _ in range(9):
        rig.exchange(GET[:10], rig.connect())
    clock.advance(5.1)
    ended = []
    sweep(rig)
    while rig.pool.unswept:
        ended.append(rig.errors()["read_timeout"])
        clock.advance(SWEEP_PAUSE_S)
        rig.pump()
    assert ended == [3, 5, 7, 8]


@pytest.mark.parametrize("start", [GET[:10], POST_HEAD + b"12345"])
def test_what_came_while_the_leader_was_away_is_no_timeout(
    make_rig: MakeRig, clock: Clock, start: bytes
) -> None:
    """The request is whole, and only waits to be read; who trickles on is late all the same."""
    rig = make_rig(header_timeout=5.0, body_timeout=5.0)
    whole = {GET[:10]: GET[10:], POST_HEAD + b"12345": b"67890"}[start]
    late, trickling = rig.connect(), rig.connect()
    for client in (late, trickling):
        rig.exchange(start, client)
    clock.advance(10.1)
    late.sendall(whole)
    trickling.sendall(whole[:1])
    for _ in range(2):
        sweep_once(rig.pool, rig.service, rig.intake._handshakes, clock())
    assert rig.errors() == {}

    assert rig.exchange(b"", late).startswith(b"HTTP/1.1 200 ")
    trickling.sendall(whole[1:2])
    for _ in range(2):
        sweep_once(rig.pool, rig.service, rig.intake._handshakes, clock())
    assert rig.errors() == {"read_timeout": 1}
    assert drained(trickling).startswith(b"HTTP/1.1 408 ")


def test_a_look_at_many_connections_is_taken_in_turns(
    make_rig: MakeRig, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand looks in a row would keep everybody waiting, too; yet none is left out."""
    monkeypatch.setattr("gthreadsrv.worker.sweep.SWEEP_LOOKS", 3)
    rig = make_rig(keepalive=20.0)
    clients = []
    for _ in range(8):
        clients.append(rig.connect())
        rig.exchange(GET, clients[-1])
        clock.advance(1.0)
    first = min(one.deadline for one in rig.pool.connections.values())
    clock.advance(first - clock() + 0.1)
    sweep(rig)
    assert len(rig.pool.unswept) == 5

    # Here after the look began, and soon late: it is not forgotten over the others.
    rig.exchange(GET[:10], rig.connect())
    # Served meanwhile, and no longer late.
    rig.exchange(GET, clients[0])
    for left in (2, 0):
        clock.advance(SWEEP_PAUSE_S)
        rig.pump()
        assert len(rig.pool.unswept) == left
    assert rig.closed() == {}
    assert rig.pool.earliest == min(one.deadline for one in rig.pool.connections.values())
