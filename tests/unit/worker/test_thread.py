"""Real pool threads: the lead is never lost, and nobody waits for a thread that is not needed."""

from __future__ import annotations

import random
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from gthreadsrv.worker import service
from gthreadsrv.worker.pool import SLOW_S
from gthreadsrv.worker.thread import EXIT_BUG
from tests.unit.worker.rig import (
    DEADLINE_S,
    Clock,
    Gate,
    Live,
    get,
    hello,
    no_exit,
    read_response,
    running,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    MakeLive = Callable[..., Live]

ANSWER = re.compile(rb"(?<=\r\n\r\n)/[a-z]+/\d+/\d+/\d+(?=HTTP|$)")


def at_rest(live: Live) -> bool:
    """Whether one thread leads and all others are parked."""
    shared = live.pool
    with shared.lock:
        return (
            shared.leader is not None
            and not shared.inline_since
            and len(shared.idle) == len(live.threads) - 1
            and shared.leader not in shared.idle
        )


class Ticker:
    """Does the watchdog's part of promoting, as often as it can."""

    def __init__(self, live: Live) -> None:
        self._pool = live.pool
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.wait(0.0005):
            self._pool.promote(time.monotonic())

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_args: object) -> None:
        self._end.set()
        self._thread.join()


def test_slow_requests_run_side_by_side(make_live: MakeLive) -> None:
    """Without a watchdog's help: while requests are known to be slow, each has its thread."""
    gate = Gate()
    live = make_live(gate, threads=4)
    with running(live):
        clients = []
        for number in range(4):
            client = live.connect()
            client.sendall(get(f"/hold/{number}"))
            gate.wait_inside(f"/hold/{number}")
            clients.append(client)
        wait_until(lambda: live.pool.leader is None, "nobody is left to poll")
        assert live.pool.saturated

        for number in (2, 0, 3, 1):
            gate.let_out(f"/hold/{number}")
            assert read_response(clients[number]) == (200, f"/hold/{number}".encode())
        wait_until(lambda: at_rest(live), "all threads are back")
        assert not live.pool.saturated


def test_requests_that_come_together_are_handed_out_together(make_live: MakeLive) -> None:
    """One look at the poller may start several threads at once."""
    gate = Gate()
    live = make_live(gate, threads=4)
    with running(live):
        clients = [live.connect() for _ in range(3)]
        for client in clients:
            client.sendall(get("/"))
            read_response(client)
        live.pool.pace_s = 1.0
        for number, client in enumerate(clients):
            client.sendall(get(f"/hold/{number}"))
        for number in range(3):
            gate.wait_inside(f"/hold/{number}")
        assert live.pool.leader is not None
        for number, client in enumerate(clients):
            gate.let_out(f"/hold/{number}")
            assert read_response(client)[1] == f"/hold/{number}".encode()


def test_a_fast_handler_that_turns_slow_holds_up_nobody_for_long(make_live: MakeLive) -> None:
    """The leader is caught inline; the watchdog gives the lead away, and others are served."""
    gate = Gate()
    live = make_live(gate, threads=2)
    with running(live):
        live.pool.pace_s = 0.0
        held, other = live.connect(), live.connect()
        held.sendall(get("/hold"))
        gate.wait_inside("/hold")
        other.sendall(get("/other"))
        first = live.pool.leader
        assert live.pool.inline_since

        wait_until(lambda: live.pool.promote(time.monotonic()), "the lead is given away")
        assert read_response(other) == (200, b"/other")
        assert live.pool.leader is not first

        gate.let_out("/hold")
        assert read_response(held) == (200, b"/hold")
        wait_until(lambda: at_rest(live), "both threads are back")


def test_fast_requests_never_cross_threads(
    make_live: MakeLive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow application's requests move from thread to thread; a fast one's stay where they are."""
    seen: list[int] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        seen.append(threading.get_ident())
        return hello(environ, start_response)

    live = make_live(app, threads=4)
    monkeypatch.setattr(service, "PACE_WEIGHT", 0.0)
    with running(live):
        client = live.connect()
        threads = []
        for pace_s in (1.0, 0.0):
            live.pool.pace_s = pace_s
            wait_until(lambda: at_rest(live), "all threads are back")
            seen.clear()
            for _ in range(20):
                client.sendall(get("/"))
                read_response(client)
            threads.append(len(set(seen)))
        assert threads[0] > 1
        assert threads[1] == 1


def test_a_handler_that_turns_slow_and_fast_again(make_live: MakeLive, clock: Clock) -> None:
    """Its requests stay on one thread, then go from thread to thread, then stay again."""
    seen: list[int] = []
    takes_s = 0.0

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        seen.append(threading.get_ident())
        clock.advance(takes_s)
        return hello(environ, start_response)

    live = make_live(app, threads=4)
    with running(live):
        client = live.connect()
        crossing = []
        for takes_s in (SLOW_S / 10, SLOW_S * 10, SLOW_S / 10):
            # The average has followed after this many: 0.9 to the 60th is 0.002.
            for _ in range(60):
                client.sendall(get("/"))
                read_response(client)
            wait_until(lambda: at_rest(live), "all threads are back")
            seen.clear()
            for _ in range(20):
                client.sendall(get("/"))
                read_response(client)
            crossing.append(len(set(seen)) > 1)
        assert crossing == [False, True, False]


@pytest.mark.parametrize("pace_s", [0.0, 1.0])
def test_with_all_threads_held_the_first_one_back_serves_who_waits(
    make_live: MakeLive, pace_s: float
) -> None:
    """The lead is taken up again by whoever is free first, inline or handed over."""
    gate = Gate()
    live = make_live(gate, threads=2)
    with running(live), Ticker(live):
        live.pool.pace_s = pace_s
        clients = [live.connect() for _ in range(3)]
        for number in range(2):
            clients[number].sendall(get(f"/hold/{number}"))
            gate.wait_inside(f"/hold/{number}")
        wait_until(lambda: live.pool.leader is None, "nobody leads")
        clients[2].sendall(get("/waits"))
        gate.let_out("/hold/1")

        assert read_response(clients[2]) == (200, b"/waits")
        gate.let_out("/hold/0")
        assert read_response(clients[0])[0] == 200
        wait_until(lambda: at_rest(live), "both threads are back")


def test_one_thread_alone_does_everything(make_live: MakeLive) -> None:
    """The classic sync worker: it polls, serves, and polls again."""
    live = make_live(threads=1)
    with running(live), Ticker(live):
        clients = [live.connect() for _ in range(5)]
        for _ in range(20):
            for client in clients:
                client.sendall(get("/"))
            for client in clients:
                assert read_response(client) == (200, b"hello")


def test_a_pipelining_client_does_not_keep_the_others_waiting(make_live: MakeLive) -> None:
    """Its requests are served one by one, and others in between."""
    order: list[str] = []
    gate = Gate()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        order.append(environ["PATH_INFO"])
        return gate(environ, start_response)

    live = make_live(app, threads=1)
    with running(live):
        greedy, modest = live.connect(), live.connect()
        modest.sendall(get("/first"))
        read_response(modest)
        greedy.sendall(get("/hold") + get("/greedy") * 50)
        gate.wait_inside("/hold")
        modest.sendall(get("/modest"))
        gate.let_out("/hold")
        assert read_response(modest) == (200, b"/modest")
        wait_until(lambda: len(order) == 53, "the pipelined requests are served")
        assert live.pool.connections


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_under_stress_every_request_is_answered_once(make_live: MakeLive, threads: int) -> None:
    """Fast and slow requests, kept, closed, pipelined and cut connections, the lead taken away.

    At the end each client has got all its answers, each is counted, and every thread is back.
    """

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/slow"):
            time.sleep(0.003)
        start_response("200 OK", [])
        return [path.encode(), environ["wsgi.input"].read()]

    live = make_live(app, threads=threads, worker_connections=50)
    failures: list[str] = []
    answered = [0] * 8

    def run(number: int) -> None:
        dice = random.Random(number)
        client = live.connect()
        for step in range(60):
            kind = dice.choice(["slow", "fast", "fast", "fast"])
            batch = dice.choice([1, 1, 1, 4])
            paths = [f"/{kind}/{number}/{step}/{part}" for part in range(batch)]
            last = dice.random() < 0.1
            data = b"".join(get(path) for path in paths[:-1])
            data += get(paths[-1], "Connection: close") if last else get(paths[-1])
            cut = dice.randrange(len(data))
            client.sendall(data[:cut])
            client.sendall(data[cut:])
            got = b""
            while got.count(b"\r\n\r\n") < batch or not got.endswith(paths[-1].encode()):
                piece = client.recv(65536)
                if not piece:
                    failures.append(f"{paths}: {got!r}")
                    return
                got += piece
            # In order, each once.
            if ANSWER.findall(got) != [path.encode() for path in paths]:
                failures.append(f"{paths} in {got!r}")
            answered[number] += batch
            if last:
                client.close()
                client = live.connect()

    with running(live), Ticker(live):
        runners = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for runner in runners:
            runner.start()
        for runner in runners:
            runner.join(DEADLINE_S * 2)
        assert failures == []
        assert not any(runner.is_alive() for runner in runners)
        wait_until(lambda: at_rest(live), "every thread is back")
        wait_until(lambda: live.responses() == sum(answered), "every response is counted")
        assert live.pool.saturated is False
        assert not live.pool.ready
        assert live.pool.in_hand == 0
        assert live.fleet().slots[0].threads_busy == 0
        assert live.errors() == {}


def test_threads_end_when_the_pool_stops(make_live: MakeLive) -> None:
    """Parked, polling or in a request: each one ends by itself."""
    gate = Gate()
    live = make_live(gate, threads=3)
    live.start()
    client = live.connect()
    client.sendall(get("/hold"))
    gate.wait_inside("/hold")
    live.pool.stop()
    live.pool.poke()
    wait_until(lambda: sum(thread.join(0) for thread in live.threads) == 2, "two have ended")
    gate.let_out("/hold")

    assert all(thread.join(DEADLINE_S) for thread in live.threads)
    assert read_response(client)[1] == b"/hold"
    live.release()


def test_a_bug_of_ours_ends_the_process_and_not_just_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool that silently lost its leader would be deaf; the master replaces what has ended."""
    codes = no_exit(monkeypatch)
    live = Live(hello, tmp_path / "s", threads=2)

    def broken(*_args: Any) -> Any:
        raise AssertionError("the server's own")

    for one in live.services:
        monkeypatch.setattr(one, "run", broken)
    live.start()
    live.connect().sendall(get("/"))
    wait_until(lambda: codes, "the exit")

    assert codes == [EXIT_BUG]
    assert live.log.events("critical") == ["bug in the server, the worker ends"]
    live.pool.stop()
    live.pool.poke()
    for thread in live.threads:
        assert thread.join(DEADLINE_S)
    live.release()


def test_a_thread_has_an_id_once_it_runs(make_live: MakeLive) -> None:
    """So that the stack of a stuck one can be found."""
    live = make_live(threads=2)
    assert [thread.ident for thread in live.threads] == [None, None]
    with running(live):
        idents = {thread.ident for thread in live.threads}
        assert len(idents) == 2
        assert idents <= {thread.ident for thread in threading.enumerate()}
