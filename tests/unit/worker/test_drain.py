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
