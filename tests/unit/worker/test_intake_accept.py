"""When a worker takes new connections: never more than it has threads and room for."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import pytest

from gthreadsrv.worker.connection import State
from gthreadsrv.worker.drain import IDLE_GRACE_S
from gthreadsrv.worker.intake import FRESH_S
from tests.unit.worker.rig import (
    GET,
    GET_CLOSE,
    Gate,
    QuietError,
    at_end,
    drained,
    get,
    hello,
    read_response,
    running,
    wait_until,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from tests.unit.worker.rig import Clock, Live, Rig

    MakeRig = Callable[..., Rig]
    MakeLive = Callable[..., Live]


class FailingListener:
    """A listening socket whose next accepts fail."""

    def __init__(self, sock: socket.socket, errors: list[OSError]) -> None:
        self._sock = sock
        self.errors = errors

    def _accept(self) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return self._sock._accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def break_accept(rig: Rig, *numbers: int) -> FailingListener:
    listener = FailingListener(
        rig.listener.sock, [OSError(number, "as the test wants") for number in numbers]
    )
    rig.port.sock = cast("Any", listener)
    return listener


def test_a_silent_connection_keeps_the_one_thread_for_a_moment(
    make_rig: MakeRig, clock: Clock
) -> None:
    """With one thread, the second connection waits in the kernel until the first has aged."""
    rig = make_rig()
    rig.connect()
    rig.pump()
    assert len(rig.pool.connections) == 1
    assert not rig.port.watched
    assert rig.poller.timeout_s == pytest.approx(FRESH_S)

    rig.connect()
    clock.advance(FRESH_S / 2)
    rig.pump()
    assert len(rig.pool.connections) == 1
    assert rig.poller.timeout_s == pytest.approx(FRESH_S / 2)

    clock.advance(FRESH_S / 2)
    rig.pump()
    assert len(rig.pool.connections) == 2


def test_a_crowd_of_silent_connections_is_accepted_at_once(make_rig: MakeRig, clock: Clock) -> None:
    """The first uses up its time; those behind it, and a request behind them, do not wait too."""
    rig = make_rig()
    for _ in range(50):
        rig.connect()
    rig.pump()
    assert len(rig.pool.connections) == 1

    clock.advance(FRESH_S)
    assert rig.exchange(GET).endswith(b"hello")
    assert len(rig.pool.connections) == 51

    clock.advance(1)
    rig.connect()
    rig.pump()
    assert rig.poller.timeout_s == pytest.approx(FRESH_S)


def test_a_silent_connection_of_long_ago_does_not_open_the_door_to_a_burst(
    make_rig: MakeRig, clock: Clock
) -> None:
    """The rush counts from when its time was up, not from when somebody looked."""
    rig = make_rig()
    rig.connect()
    rig.pump()
    clock.advance(10)
    rig.connect()
    rig.connect()
    rig.pump()

    assert len(rig.pool.connections) == 2


def test_a_client_that_leaves_without_a_word_keeps_no_thread(make_rig: MakeRig) -> None:
    """Its thread is free for the next connection at once."""
    rig = make_rig()
    rig.connect().close()
    rig.pump()
    rig.connect()
    rig.pump()

    assert rig.poller.timeout_s == pytest.approx(FRESH_S)
    assert rig.closed() == {"client": 1}
    assert len(rig.pool.connections) == 1


def test_a_connection_that_has_spoken_keeps_no_thread(make_rig: MakeRig) -> None:
    """The reservation ends with the first bytes, complete request or not."""
    rig = make_rig()
    first = rig.connect()
    rig.pump()
    rig.connect()
    assert not rig.port.watched

    first.sendall(b"GET / HT")
    rig.pump()

    assert len(rig.pool.connections) == 2
    assert [one.state for one in rig.pool.connections.values()] == [State.READING, State.IDLE]


def test_a_worker_accepts_as_many_silent_connections_as_it_has_threads(make_rig: MakeRig) -> None:
    """A burst of connections is left to other workers once every thread is spoken for."""
    rig = make_rig(threads=3)
    rig.pool.idle.extend(rig.threads[1:])
    for _ in range(5):
        rig.connect()
    # The stepped thread only polls: it must not wake the others, which are not started.
    with suppress(QuietError):
        rig.intake.next()

    assert len(rig.pool.connections) == 3
    assert not rig.port.watched


def test_idle_connections_cost_no_thread(make_rig: MakeRig, clock: Clock) -> None:
    """Ten silent connections, once aged, do not keep the eleventh out."""
    rig = make_rig()
    for _ in range(10):
        rig.connect()
        rig.pump()
        clock.advance(FRESH_S)

    assert rig.exchange(GET).endswith(b"hello")
    assert len(rig.pool.connections) == 11
    assert rig.poller.timeout_s is None


def test_at_the_limit_the_oldest_idle_connection_makes_room(
    make_rig: MakeRig, clock: Clock
) -> None:
    """The newcomer is served; the one that idled longest is closed, and counted so."""
    rig = make_rig(worker_connections=3)
    old = []
    for _ in range(3):
        old.append(rig.connect())
        rig.exchange(GET, old[-1])
        clock.advance(1)
    rig.exchange(GET, old[0])  # the oldest is busy again

    assert rig.exchange(GET).endswith(b"hello")
    assert [at_end(client) for client in old] == [False, True, False]
    assert rig.closed() == {"limit": 1}
    assert len(rig.pool.connections) == 3


def test_a_sixteenth_of_the_idle_ones_goes_at_once(make_rig: MakeRig, clock: Clock) -> None:
    """One look at all connections pays for several newcomers."""
    rig = make_rig(worker_connections=32)
    for _ in range(32):
        rig.exchange(GET)
    clock.advance(IDLE_GRACE_S)

    assert rig.exchange(GET).endswith(b"hello")
    assert rig.closed() == {"limit": 2}


def test_at_the_limit_a_crowd_does_not_close_on_requests_that_have_come(
    make_rig: MakeRig, clock: Clock
) -> None:
    """The newcomers wait until those are answered, and then those make room."""
    rig = make_rig(hello, tcp=True, worker_connections=8)
    rig.pool.pace_s = 0.0
    kept = [rig.connect() for _ in range(8)]
    for client in kept:
        rig.exchange(GET, client)
        clock.advance(1.0)
    crowd = [rig.connect() for _ in range(8)]
    for client in (*crowd, *kept):
        client.sendall(GET)

    for _ in range(len(crowd)):
        rig.pump()
        clock.advance(IDLE_GRACE_S)

    for client in (*crowd, *kept):
        assert drained(client).startswith(b"HTTP/1.1 200")
    assert rig.closed() == {"limit": 7}


def test_silent_connections_at_the_limit_do_not_shut_the_worker(
    make_rig: MakeRig, clock: Clock
) -> None:
    """Clients that connect and say nothing cannot keep the next one out for long."""
    rig = make_rig(worker_connections=2)
    for _ in range(2):
        rig.connect()
        rig.pump()
        clock.advance(0.1)
    client = rig.connect()
    client.sendall(GET)
    rig.pump()

    assert drained(client).endswith(b"hello")
    assert rig.closed() == {"limit": 1}


def test_a_busy_connection_is_never_closed_to_make_room(make_rig: MakeRig, clock: Clock) -> None:
    """At the limit with nobody idle the newcomer waits in the kernel, until there is room."""
    rig = make_rig(worker_connections=2)
    busy = [rig.connect(), rig.connect()]
    for client in busy:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
        rig.pump()
    waiting = rig.connect()
    waiting.sendall(GET)
    rig.pump()
    assert len(rig.pool.connections) == 2
    assert not rig.port.watched

    busy[0].close()
    rig.pump()

    assert drained(waiting).endswith(b"hello")
    assert rig.closed() == {"client": 1}


def test_room_made_by_a_pool_thread_is_noticed(make_live: MakeLive) -> None:
    """A leader that waits at the limit hears of the connection another thread has closed."""
    gate = Gate()
    live = make_live(gate, threads=4, worker_connections=2)
    with running(live):
        held = [live.connect(), live.connect()]
        for number, client in enumerate(held):
            client.sendall(get(f"/hold/{number}", "Connection: close"))
            gate.wait_inside(f"/hold/{number}")
        waiting = live.connect()
        waiting.sendall(get("/late"))
        wait_until(lambda: not live.port.watched, "the listener is left alone")
        gate.let_out("/hold/1")

        assert read_response(waiting) == (200, b"/late")
        gate.let_out("/hold/0")


def test_an_idle_connection_left_by_a_pool_thread_is_noticed(make_live: MakeLive) -> None:
    """The same for a connection that stays, and may be closed to make room."""
    gate = Gate()
    live = make_live(gate, threads=4, worker_connections=1)
    with running(live):
        held = live.connect()
        held.sendall(get("/hold"))
        gate.wait_inside("/hold")
        waiting = live.connect()
        waiting.sendall(get("/late"))
        wait_until(lambda: not live.port.watched, "the listener is left alone")
        gate.let_out("/hold")

        assert read_response(held) == (200, b"/hold")
        assert read_response(waiting) == (200, b"/late")
        assert live.closed() == {"limit": 1}


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_descriptors_nothing_is_accepted_for_a_second(
    make_rig: MakeRig, clock: Clock, number: int
) -> None:
    """The listener is left alone, with one line in the log, and tried again after a second."""
    rig = make_rig()
    break_accept(rig, number)
    client = rig.connect()
    client.sendall(GET)
    rig.pump()
    assert rig.log.events("error") == ["cannot accept connections"]
    assert not rig.port.watched
    assert rig.poller.timeout_s == pytest.approx(1.0)

    clock.advance(0.9)
    rig.pump()
    assert rig.pool.connections == {}

    clock.advance(0.2)
    rig.pump()
    assert drained(client).endswith(b"hello")
    assert rig.log.events("error") == ["cannot accept connections"]


def test_connections_there_already_are_served_meanwhile(make_rig: MakeRig, clock: Clock) -> None:
    """Running out of descriptors stops the accepting, not the serving."""
    rig = make_rig()
    client = rig.connect()
    rig.exchange(GET, client)
    break_accept(rig, errno.ENFILE)
    rig.connect()
    rig.pump()

    assert rig.exchange(GET, client).endswith(b"hello")


def test_at_the_limit_of_descriptors_the_oldest_idle_client_makes_room(
    make_rig: MakeRig, clock: Clock
) -> None:
    """As at --worker-connections: without a pause, and one line a second in the log."""
    rig = make_rig()
    idle = [rig.connect() for _ in range(2)]
    for client in idle:
        rig.exchange(GET, client)
        clock.advance(IDLE_GRACE_S)
    for client in idle:
        break_accept(rig, errno.EMFILE)
        assert rig.exchange(GET).endswith(b"hello")
        assert at_end(client)

    assert rig.log.events("error") == ["cannot accept connections"]
    assert rig.closed() == {"limit": 2}


@pytest.mark.parametrize(
    "number",
    [
        errno.EAGAIN, errno.EINTR, errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN,
        errno.EHOSTUNREACH, errno.EPERM, errno.ETIMEDOUT,
    ],
)  # fmt: skip
def test_a_connection_that_failed_by_itself_is_passed_over(make_rig: MakeRig, number: int) -> None:
    """accept(2) reports the errors of a connection that is gone: the next one is accepted."""
    rig = make_rig()
    break_accept(rig, number)
    client = rig.connect()
    client.sendall(GET)
    rig.pump()

    assert drained(client).endswith(b"hello")
    assert rig.log.lines == []


def test_an_unknown_accept_error_neither_ends_the_worker_nor_spins(
    make_rig: MakeRig, clock: Clock
) -> None:
    """A listener that somebody shut down is looked at once a second, with a line each time."""
    rig = make_rig()
    client = rig.connect()
    rig.exchange(GET, client)
    break_accept(rig, errno.EINVAL, errno.EINVAL)
    rig.connect()
    rig.pump()
    clock.advance(1)
    rig.pump()

    assert rig.log.events("error") == ["cannot accept connections"] * 2
    assert rig.exchange(GET, client).endswith(b"hello")


def test_a_draining_worker_accepts_nothing(make_rig: MakeRig) -> None:
    """Not even what the poller had reported before, nor at the limit with idle ones to close."""
    rig = make_rig(worker_connections=1)
    rig.exchange(GET)
    waiting = rig.connect()
    rig.pool.accepting = False
    rig.pool.events.append((rig.port.fd, 1))
    rig.pump()

    assert len(rig.pool.connections) == 1
    assert not rig.port.watched
    assert rig.closed() == {}
    assert not at_end(waiting)


def test_with_every_thread_taken_nothing_is_accepted_at_the_limit(make_rig: MakeRig) -> None:
    """Room for a connection is not enough: it needs a thread as well."""
    rig = make_rig(worker_connections=1, threads=1)
    rig.exchange(GET)
    rig.connect()
    rig.pool.in_hand = 1
    rig.pool.events.append((rig.port.fd, 1))
    assert rig.intake.next_now() is None

    assert len(rig.pool.connections) == 1
    assert rig.closed() == {}


def test_a_stale_event_for_a_number_that_is_gone_does_no_harm(make_rig: MakeRig) -> None:
    """Events of closed connections may still be in the queue, their number not in use or reused."""
    rig = make_rig()
    client = rig.connect()
    rig.exchange(GET_CLOSE, client)
    rig.pool.events.extend([(4000, 1), (4001, 4)])
    other = rig.connect()
    rig.exchange(GET, other)
    (fd,) = rig.pool.connections
    rig.pool.events.extend([(fd, 1), (fd, 4), (fd, 16)])
    rig.pump()

    assert rig.exchange(GET, other).endswith(b"hello")


def test_every_accept_is_counted(make_rig: MakeRig) -> None:
    """Also those that are closed at once."""
    rig = make_rig()
    for _ in range(3):
        rig.exchange(GET_CLOSE)
    rig.connect().close()
    rig.pump()

    assert rig.fleet().slots[0].accepted == 4


def test_new_connections_take_turns_with_those_that_are_here(make_rig: MakeRig) -> None:
    """Clients that ask again and again do not keep the others in the kernel's queue."""
    order: list[str] = []
    old: list[socket.socket] = []
    again = iter(range(30))

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        order.append(environ["PATH_INFO"])
        number = int(environ["QUERY_STRING"])
        if environ["PATH_INFO"] == "/old" and next(again, None) is not None:
            old[number].sendall(get(f"/old?{number}"))
        return hello(environ, start_response)

    rig = make_rig(app)
    for number in range(3):
        old.append(rig.connect())
        old[number].sendall(get("/first?0"))
        rig.pump()
    order.clear()

    for number in range(3):
        old[number].sendall(get(f"/old?{number}"))
        rig.connect().sendall(get("/new?0"))
    rig.pump()

    assert order[:8].count("/new") == 3
    assert order.count("/old") == 33
