"""Leaving: what a draining worker still serves, what it closes, and when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gthreadsrv.worker.connection import State
from gthreadsrv.worker.drain import IDLE_GRACE_S
from tests.unit.worker.rig import (
    GET,
    Gate,
    at_end,
    drained,
    get,
    read_response,
    running,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.worker.rig import Clock, Live, Rig

    MakeRig = Callable[..., Rig]
    MakeLive = Callable[..., Live]


def tick(rig: Rig, clock: Clock, seconds: float = 0.02) -> bool:
    """What the watchdog does while the worker drains; True when the pool has ended."""
    clock.advance(seconds)
    rig.pool.poke()
    return rig.pump()


def test_an_empty_worker_ends_at_once(make_rig: MakeRig, clock: Clock) -> None:
    """One of several workers: nothing waits for it, once it knows that the others stay."""
    rig = make_rig()
    rig.pump()
    assert not rig.drain.begun
    rig.drain.begin()
    rig.drain.begin()

    assert rig.drain.begun
    assert rig.titles == ["draining"]
    assert not tick(rig, clock)
    assert tick(rig, clock, 0.06)
    assert not rig.port.watched


def test_the_queue_is_left_to_other_workers(make_rig: MakeRig, clock: Clock) -> None:
    """When only this worker goes, those that wait in the kernel are not ours to take."""
    rig = make_rig()
    busy = rig.connect()
    rig.exchange(GET, busy)
    rig.drain.begin()
    assert not tick(rig, clock, 0.06)
    waiting = rig.connect()
    waiting.sendall(GET)
    assert not tick(rig, clock)
    busy.close()

    assert tick(rig, clock)
    assert drained(waiting) == b""
    assert rig.fleet().slots[0].accepted == 1


def test_the_queue_is_emptied_when_the_whole_server_goes(make_rig: MakeRig, clock: Clock) -> None:
    """Everybody who came before the end is served, and told that the connection closes."""
    rig = make_rig(whole=True)
    rig.pump()
    rig.drain.begin()
    waiting = [rig.connect() for _ in range(5)]
    for client in waiting:
        client.sendall(GET)
    assert not tick(rig, clock)
    for client in waiting:
        got = drained(client)
        assert got.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in got
        client.close()
    assert not tick(rig, clock, 0.01)  # a handshake may be under way
    assert rig.pool.accepting

    assert tick(rig, clock, 0.06)
    assert rig.responses() == 5
    assert rig.closed() == {"shutdown": 5}


def test_a_worker_may_hear_of_the_end_before_the_master(make_rig: MakeRig, clock: Clock) -> None:
    """TERM goes to a whole process group: that all others leave too is known a moment later."""
    told: list[bool] = []
    rig = make_rig(whole=told.__len__)
    rig.drain.begin()
    assert not tick(rig, clock)
    told.append(True)
    waiting = rig.connect()
    waiting.sendall(GET)
    assert not tick(rig, clock, 0.06)

    assert drained(waiting).startswith(b"HTTP/1.1 200 ")
    assert rig.responses() == 1


def test_a_connection_that_was_busy_may_send_once_more(make_rig: MakeRig, clock: Clock) -> None:
    """Closed under its request it would see a reset; it is told in the answer instead."""
    rig = make_rig()
    client = rig.connect()
    rig.exchange(GET, client)
    rig.drain.begin()
    for _ in range(10):
        assert not tick(rig, clock)
    got = rig.exchange(GET, client)

    assert b"\r\nConnection: close\r\n" in got
    assert at_end(client)
    client.close()
    assert tick(rig, clock)
    assert rig.closed() == {"shutdown": 1}


def test_a_request_that_has_come_is_not_closed_upon(make_rig: MakeRig, clock: Clock) -> None:
    """The leader looks at its clock first: what waits in the kernel keeps the connection."""
    rig = make_rig()
    kept = rig.connect()
    rig.exchange(GET, kept)
    rig.drain.begin()
    clock.advance(IDLE_GRACE_S + 0.1)
    kept.sendall(GET)
    rig.drain.advance(clock(), rig.intake.close_ports)
    rig.pool.poke()
    rig.pump()

    assert drained(kept).startswith(b"HTTP/1.1 200 ")


def test_a_connection_idle_for_a_while_is_closed(make_rig: MakeRig, clock: Clock) -> None:
    """Kept alive or silent since it came."""
    rig = make_rig()
    kept = rig.connect()
    rig.exchange(GET, kept)
    silent = rig.connect()
    rig.pump()
    clock.advance(IDLE_GRACE_S)
    rig.drain.begin()

    assert not tick(rig, clock, 0.06)  # closes them; the end is seen with the next look
    assert tick(rig, clock)
    assert at_end(kept)
    assert at_end(silent)
    assert rig.closed() == {"shutdown": 2}


def test_half_a_request_is_waited_for(make_rig: MakeRig, clock: Clock) -> None:
    """Until its own deadline, and answered when it comes."""
    rig = make_rig(header_timeout=10.0)
    client = rig.connect()
    rig.exchange(GET[:10], client)
    rig.drain.begin()
    for _ in range(5):
        assert not tick(rig, clock, 1)
    got = rig.exchange(GET[10:], client)

    assert got.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in got
    client.close()
    assert tick(rig, clock)


def test_a_response_on_its_way_is_waited_for(make_rig: MakeRig, clock: Clock) -> None:
    """A slow reader gets all of it."""

    def app(environ: object, start_response: Callable[..., object]) -> list[bytes]:
        start_response("200 OK", [])
        return [bytes(4 << 20)]

    rig = make_rig(app)
    client = rig.connect()
    rig.exchange(b"", client)
    client.sendall(GET)
    rig.pump()
    rig.drain.begin()
    size = 0
    for _ in range(1000):
        size += len(drained(client))
        if rig.only().state is State.LINGERING or size > 4 << 20:
            break
        assert not tick(rig, clock)

    assert size > 4 << 20


def test_what_was_pipelined_is_answered_before_the_connection_ends(
    make_rig: MakeRig, clock: Clock
) -> None:
    """All that has come is; the last answer says that nothing more will."""
    rig = make_rig()
    client = rig.connect()
    rig.exchange(GET, client)
    rig.drain.begin()
    got = rig.exchange(GET * 3, client)

    assert got.count(b"HTTP/1.1 200 ") == 3
    assert got.count(b"\r\nConnection: close\r\n") == 1
    assert b"Connection: close" in got.rpartition(b"HTTP/1.1 200")[2]
    assert at_end(client)


def test_what_comes_while_the_last_request_runs_is_answered_too(
    make_rig: MakeRig, clock: Clock
) -> None:
    """It waits in the kernel, and nobody has read it."""
    sent: list[int] = []

    def app(environ: object, start_response: Callable[..., object]) -> list[bytes]:
        if not sent:
            sent.append(1)
            client.sendall(GET)
            rig.drain.begin()
        start_response("200 OK", [])
        return [b"x"]

    rig = make_rig(app)
    client = rig.connect()
    got = rig.exchange(GET, client)

    assert got.count(b"HTTP/1.1 200 ") == 2
    assert got.count(b"\r\nConnection: close\r\n") == 1


@pytest.mark.parametrize("more", [b"\r\n", b""])
def test_an_empty_line_is_no_further_request(make_rig: MakeRig, clock: Clock, more: bytes) -> None:
    """It ends some clients' bodies."""
    rig = make_rig()
    client = rig.connect()
    rig.drain.begin()
    assert b"\r\nConnection: close\r\n" in rig.exchange(GET + more, client)


def test_a_pipeline_that_never_runs_dry_does_not_keep_the_worker(
    make_rig: MakeRig, clock: Clock
) -> None:
    """For half of the graceful timeout it is served."""
    rig = make_rig(graceful_timeout=10.0)
    client = rig.connect()
    rig.exchange(GET, client)
    rig.drain.begin()
    clock.advance(5.1)
    got = rig.exchange(GET * 3, client)

    assert got.count(b"HTTP/1.1 200 ") == 1
    assert got.count(b"\r\nConnection: close\r\n") == 1


def test_without_a_master_the_queue_is_emptied_as_well(make_rig: MakeRig, clock: Clock) -> None:
    """Nobody else is left to serve it, nor to shut the way in."""
    rig = make_rig()
    rig.pump()
    rig.drain.begin_without_master()
    waiting = [rig.connect() for _ in range(3)]
    for client in waiting:
        client.sendall(GET)
    assert not tick(rig, clock, 0.06)

    assert [drained(client)[:13] for client in waiting] == [b"HTTP/1.1 200 "] * 3
    assert rig.titles == ["shut", "draining"]


def test_without_a_master_the_queue_may_be_anothers(make_rig: MakeRig, clock: Clock) -> None:
    """A successor's workers go on serving it: it is neither shut nor emptied."""
    rig = make_rig()
    rig.shared = True
    rig.pump()
    rig.drain.begin_without_master()
    assert not tick(rig, clock, 0.04)
    clock.advance(0.02)
    rig.connect().sendall(GET)
    rig.drain.advance(clock(), rig.intake.close_ports)

    assert not rig.pool.accepting


def test_the_reason_is_told_to_the_metrics(make_rig: MakeRig, clock: Clock) -> None:
    """A worker that leaves for another reason than the server's end counts that one."""
    rig = make_rig()
    rig.pool.close_reason = "max_requests"
    client = rig.connect()
    rig.exchange(GET, client)
    rig.drain.begin()
    rig.exchange(GET, client)
    client.close()

    assert tick(rig, clock, 0.06)
    assert rig.closed() == {"max_requests": 1}


def test_keep_alive_of_nothing_still_has_the_grace(make_rig: MakeRig, clock: Clock) -> None:
    """The time idle is counted from the end of keep-alive, whatever that is."""
    rig = make_rig(keepalive=0.5)
    client = rig.connect()
    rig.exchange(GET, client)
    rig.drain.begin()

    assert not tick(rig, clock, 0.4)
    assert rig.closed() == {}


def test_a_silent_connection_without_a_limit_does_not_keep_the_worker(
    make_rig: MakeRig, clock: Clock
) -> None:
    """Where clients may be silent for ever, the grace runs from the beginning of the drain."""
    rig = make_rig(keepalive=0.0, header_timeout=0.0)
    silent = rig.connect()
    rig.pump()
    clock.advance(100)
    rig.drain.begin()

    assert not tick(rig, clock, IDLE_GRACE_S / 2)
    assert not at_end(silent)
    assert not tick(rig, clock, IDLE_GRACE_S / 2)
    assert tick(rig, clock)
    assert at_end(silent)


@pytest.mark.parametrize("threads", [1, 4])
def test_running_requests_finish_before_real_threads_end(make_live: MakeLive, threads: int) -> None:
    """Each thread ends by itself once its request is answered."""
    gate = Gate()
    live = make_live(gate, threads=threads)
    with running(live):
        clients = []
        for number in range(threads):
            client = live.connect()
            client.sendall(get(f"/hold/{number}"))
            gate.wait_inside(f"/hold/{number}")
            clients.append(client)
        live.drain.begin()
        for number, client in enumerate(clients):
            gate.let_out(f"/hold/{number}")
            assert read_response(client) == (200, f"/hold/{number}".encode())
            client.close()

        def poked_out() -> bool:
            live.pool.poke()
            return live.pool.stopped.is_set()

        wait_until(poked_out, "the pool ends")
        for thread in live.threads:
            assert thread.join(1.0)
        assert live.responses() == threads


def test_what_comes_while_a_request_runs_whose_worker_had_begun_to_leave(
    make_rig: MakeRig, clock: Clock
) -> None:
    """Nothing more was there when it began: that is looked at again before its answer goes."""
    sent: list[int] = []

    def app(environ: object, start_response: Callable[..., object]) -> list[bytes]:
        if not sent:
            sent.append(1)
            client.sendall(GET)
        start_response("200 OK", [])
        return [b"x"]

    rig = make_rig(app)
    client = rig.connect()
    rig.drain.begin()
    got = rig.exchange(GET, client)

    assert got.count(b"HTTP/1.1 200 ") == 2
    assert got.count(b"\r\nConnection: close\r\n") == 1


@pytest.mark.parametrize("minor", [0, 1])
def test_a_client_that_asks_for_the_end_gets_it_from_a_draining_worker(
    make_rig: MakeRig, clock: Clock, minor: int
) -> None:
    """Whatever else it sends."""
    rig = make_rig()
    rig.drain.begin()
    client = rig.connect()
    last = b"GET / HTTP/1.%d\r\nHost: a\r\n%b\r\n" % (minor, b"Connection: close\r\n" * minor)
    got = rig.exchange(last + GET, client)

    assert got.count(b"HTTP/1.1 200 ") == 1
    assert got.count(b"\r\nConnection: close\r\n") == 1
