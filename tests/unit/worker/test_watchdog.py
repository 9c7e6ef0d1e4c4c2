"""The watchdog on the test's own main thread, with real pool threads and real signals."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from gthreadsrv.worker import watchdog as module
from gthreadsrv.worker.channel import open_channel
from gthreadsrv.worker.pool import PATIENCE_S
from gthreadsrv.worker.watchdog import Watchdog
from gthreadsrv_metrics.layout import S_INTERPRETER_WAIT
from tests.unit.worker.rig import GET, Clock, Gate, get, hello, read_response, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gthreadsrv.worker.channel import MasterChannel
    from tests.unit.worker.rig import Live

    MakeLive = Callable[..., Live]

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)


class Watched:
    """A live pool under a real watchdog; a script plays clients and master beside them."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.master: MasterChannel
        self.master, self.channel = open_channel()
        self.reopened = 0
        self.beats = 0
        self.watchdog = Watchdog(
            live.pool,
            live.board.slot(0),
            self.channel,
            live.drain,
            threads=len(live.threads),
            reopen_logs=self._reopen,
            beat=self._beat,
        )

    def _reopen(self) -> None:
        self.reopened += 1

    def _beat(self) -> None:
        self.beats += 1

    def dismiss(self) -> None:
        """Give everything back without a run."""
        self.live.release()
        self.master.close()
        self.channel.close()
        self.watchdog._poller.close()
        os.close(self.watchdog._signal_fd)
        os.close(self.watchdog._signal_end)

    def run(self, script: Callable[[], None]) -> bool:
        """Run until the watchdog returns; what the script raised is raised here."""
        raised: list[BaseException] = []

        def play() -> None:
            try:
                script()
            except BaseException as error:  # noqa: BLE001 - handed to the test's thread
                raised.append(error)
                self.live.pool.stop()

        player = threading.Thread(target=play)
        self.watchdog.arm()
        self.live.start()
        player.start()
        try:
            whole = self.watchdog.run()
        finally:
            player.join()
            self.live.end()
            self.live.release()
            self.master.close()
            self.channel.close()
        if raised:
            raise raised[0]
        return whole


def term() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def watch(make_live: MakeLive) -> Iterator[Callable[..., Watched]]:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    # A watchdog that forgets to listen must fail its test, not end the test run.
    old = {number: signal.signal(number, signal.SIG_IGN) for number in NUMBERS}
    yield lambda *args, **kwargs: Watched(make_live(*args, **kwargs))
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.fixture
def no_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first heartbeat is the only one."""
    monkeypatch.setattr(module, "BEAT_S", 1000.0)


def test_term_drains(watch: Callable[..., Watched]) -> None:
    """The running request is answered, the connection is told to end, and the pool stops."""
    gate = Gate()
    watched = watch(gate, threads=2)

    def script() -> None:
        client = watched.live.connect()
        client.sendall(get("/hold"))
        gate.wait_inside("/hold")
        term()
        wait_until(lambda: watched.live.drain.begun, "the drain begins")
        gate.let_out("/hold")
        assert read_response(client)[0] == 200
        client.close()

    assert watched.run(script) is True
    assert watched.live.titles == ["draining"]
    assert watched.live.closed() == {"shutdown": 1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_do_not_wait(watch: Callable[..., Watched], number: signal.Signals) -> None:
    """The watchdog returns while a request runs, and says that the pool is left as it is."""
    gate = Gate()
    watched = watch(gate, threads=1)
    client = watched.live.connect()

    def script() -> None:
        client.sendall(get("/hold"))
        gate.wait_inside("/hold")
        os.kill(os.getpid(), number)
        # Only to let the test end: the watchdog has gone by then.
        wait_until(lambda: watched.watchdog._hasty, "the signal is heard")
        gate.let_out("/hold")

    assert watched.run(script) is False
    assert not watched.live.drain.begun


def test_usr1_reopens_the_logs_and_nothing_else(watch: Callable[..., Watched]) -> None:
    """Once for each that arrives; the pool serves on."""
    watched = watch(hello, threads=1)

    def script() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        wait_until(lambda: watched.reopened == 1, "the logs are reopened")
        os.kill(os.getpid(), signal.SIGUSR1)
        wait_until(lambda: watched.reopened == 2, "the logs are reopened again")
        client = watched.live.connect()
        client.sendall(GET)
        assert read_response(client)[0] == 200
        client.close()
        term()

    assert watched.run(script) is True


def test_the_masters_death_drains(watch: Callable[..., Watched]) -> None:
    """The end of the line is looked at once, not again and again."""
    watched = watch(hello, threads=1)
    looks = []
    gone = watched.channel.master_gone

    class Counting:
        """The worker's end of the line, counting looks at it."""

        fileno = watched.channel.fileno

        def master_gone(self) -> bool:
            looks.append(1)
            return gone()

    watched.watchdog._channel = Counting()  # type: ignore[assignment]

    def script() -> None:
        client = watched.live.connect()
        client.sendall(GET)
        read_response(client)
        watched.master.close()
        wait_until(lambda: watched.live.drain.begun, "the drain begins")
        client.close()

    assert watched.run(script) is True
    assert len(looks) == 1


def test_a_slow_inline_request_loses_the_lead(
    watch: Callable[..., Watched], no_beats: None
) -> None:
    """Others are served meanwhile."""
    gate = Gate()
    watched = watch(gate, threads=2)

    def script() -> None:
        watched.live.pool.pace_s = 0.0
        held, other = watched.live.connect(), watched.live.connect()
        held.sendall(get("/hold"))
        gate.wait_inside("/hold")
        other.sendall(get("/other"))
        assert read_response(other) == (200, b"/other")
        gate.let_out("/hold")
        read_response(held)
        held.close()
        other.close()
        term()

    assert watched.run(script) is True


def test_a_sleeping_watchdog_wakes_for_a_slow_inline_request(
    watch: Callable[..., Watched], no_beats: None
) -> None:
    """After a calm while it sleeps until the next heartbeat: too long for the others to wait."""
    gate = Gate()
    watched = watch(gate, threads=2)
    pool = watched.live.pool

    def script() -> None:
        for round_ in range(3):
            wait_until(lambda: pool.watchdog_sleeps, "the watchdog sleeps")
            pool.pace_s = 0.0
            held, other = watched.live.connect(), watched.live.connect()
            held.sendall(get(f"/hold/{round_}"))
            gate.wait_inside(f"/hold/{round_}")
            other.sendall(get("/other"))
            assert read_response(other) == (200, b"/other")
            gate.let_out(f"/hold/{round_}")
            read_response(held)
            held.close()
            other.close()
        term()

    assert watched.run(script) is True
    assert watched.beats <= 2


def test_a_request_that_began_while_it_fell_asleep_is_seen(make_live: MakeLive) -> None:
    """The leader that missed the flag is seen by a second look before the sleep."""
    live = make_live(threads=2)
    watched = Watched(live)
    watchdog = watched.watchdog
    watchdog._calm = module._CALM_TICKS
    watchdog._next_beat = 100.0
    assert watchdog._sleep_s(99.0) == pytest.approx(1.0)
    assert live.pool.watchdog_sleeps

    live.pool.inline_since = 98.9
    assert watchdog._sleep_s(99.0) == PATIENCE_S
    watched.dismiss()


def test_one_thread_needs_no_watching(watch: Callable[..., Watched], no_beats: None) -> None:
    """There is no follower to promote: the watchdog sleeps, and requests do not rouse it."""
    watched = watch(hello, threads=1)
    ticks: list[float] = []
    tick = watched.watchdog._tick

    def counting(due: float) -> None:
        ticks.append(due)
        tick(due)

    watched.watchdog._tick = counting  # type: ignore[method-assign]

    def script() -> None:
        client = watched.live.connect()
        for _ in range(50):
            client.sendall(GET)
            read_response(client)
        client.close()
        assert len(ticks) <= 2
        term()

    assert watched.run(script) is True


def test_heartbeats_tell_the_time_and_the_connections(
    watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each state is counted."""
    monkeypatch.setattr(module, "BEAT_S", 0.01)
    gate = Gate()
    watched = watch(gate, threads=2)
    live = watched.live

    def script() -> None:
        idle, reading, active = (live.connect() for _ in range(3))
        idle.sendall(GET)
        read_response(idle)
        reading.sendall(GET[:5])
        active.sendall(get("/hold"))
        gate.wait_inside("/hold")
        wait_until(lambda: live.fleet().slots[0].connections == (1, 1, 0, 1), "the counts")
        assert live.fleet().slots[0].heartbeat_age_s < 5.0
        gate.let_out("/hold")
        for client in (idle, reading, active):
            client.close()
        term()

    assert watched.run(script) is True


def test_a_deadline_is_looked_at_when_it_passes(
    make_live: MakeLive, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Not with all others of a second; nor in a loop while no thread is free to see to it."""
    monkeypatch.setattr(module, "monotonic", clock)
    watched = Watched(make_live(hello, threads=2))
    watchdog, pool = watched.watchdog, watched.live.pool
    try:
        watchdog._calm = 1000
        watchdog._next_beat = clock() + 1.0
        pool.earliest = clock() + 0.3
        assert watchdog._sleep_s(clock()) == pytest.approx(0.3)

        clock.advance(0.3)
        watchdog._tick(clock())
        assert os.read(pool.poke_fd, 64) == b"!"
        assert watchdog._sleep_s(clock()) == pytest.approx(0.1)
        clock.advance(0.05)
        watchdog._tick(clock())
        with pytest.raises(BlockingIOError):
            os.read(pool.poke_fd, 64)
    finally:
        watched.dismiss()


def test_a_passed_deadline_is_seen_by_the_next_heartbeat(
    watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader is poked, and ends what has waited too long."""
    monkeypatch.setattr(module, "BEAT_S", 0.01)
    watched = watch(hello, threads=2, keepalive=0.05)

    def script() -> None:
        client = watched.live.connect()
        client.sendall(GET)
        read_response(client)
        assert client.recv(1) == b""
        term()

    assert watched.run(script) is True
    assert watched.live.closed() == {"keepalive_timeout": 1}


def test_the_request_limit_is_told_at_once(watch: Callable[..., Watched], no_beats: None) -> None:
    """Not a heartbeat later, also out of the sleep."""
    watched = watch(hello, threads=1, max_requests=2)

    def script() -> None:
        client = watched.live.connect()
        client.sendall(GET)
        read_response(client)
        # The first request may be served before the watchdog has had its first turn.
        wait_until(lambda: watched.beats == 1, "the first beat")
        client.sendall(GET)
        read_response(client)
        wait_until(lambda: watched.beats == 2, "a beat with the news")
        client.close()
        term()

    assert watched.run(script) is True


def test_lateness_is_counted(make_live: MakeLive) -> None:
    """What the watchdog overslept is the interpreter's or the CPU's doing; early is nothing."""
    live = make_live(threads=1)
    watched = Watched(live)
    now = time.monotonic()
    watched.watchdog._beat(now, now - 0.25)
    watched.watchdog._beat(now, now + 0.5)

    assert live.board.slot_cells(0)[S_INTERPRETER_WAIT] == pytest.approx(0.25)
    watched.dismiss()


def test_the_signal_pipe_is_given_back(watch: Callable[..., Watched]) -> None:
    """Afterwards no signal writes into a descriptor that may be somebody else's."""
    watched = watch(hello, threads=1)

    assert watched.run(term) is True
    assert signal.set_wakeup_fd(-1) == -1


def test_a_signal_before_it_runs_is_not_lost(watch: Callable[..., Watched]) -> None:
    """Threads serve already when it begins to look; a TERM in between drains."""
    watched = watch(hello, threads=1)
    watched.watchdog.arm()
    term()

    assert watched.run(lambda: None) is True
    assert watched.live.drain.begun
