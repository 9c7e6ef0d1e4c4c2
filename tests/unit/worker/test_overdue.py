"""When a running request is called overdue, and what is done about it, step by step."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from types import FrameType, SimpleNamespace
from typing import Any, cast

import pytest

from gthreadsrv.worker import interrupt as interrupt_module
from gthreadsrv.worker import overdue
from gthreadsrv.worker import service as service_module
from gthreadsrv.worker.channel import RetireRequested
from gthreadsrv.worker.interrupt import RequestTimeoutError, raise_in
from gthreadsrv.worker.overdue import INTERRUPT_GRACE_S, Overdue
from tests.unit.worker.rig import GET, Gate, Live, Rig, get, read_response, running, wait_until

TIMEOUT_S = 30.0


class FakeThread:
    """A pool thread that is this one."""

    def __init__(self, service: Any) -> None:
        self.service = service
        self.ident = threading.get_ident()
        self.name = "gthreadsrv-0"

    def frame(self) -> FrameType:
        return sys._current_frames()[self.ident]

    def interrupt(self, since: float) -> None:
        self.service.interruption.send(self.ident, since)


class Stage:
    """One pool thread's request, as the watchdog sees it."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self.counted: list[str] = []
        self.logged: list[dict[str, Any]] = []
        self.sent: list[object] = []
        self.interrupts: list[float] = []
        self.row = SimpleNamespace(since=0.0, count_timeout=self.counted.append)
        self.service = SimpleNamespace(
            row=self.row,
            exchange=SimpleNamespace(
                sent=0, started=False, head=SimpleNamespace(method="GET", target="/x")
            ),
            interruption=SimpleNamespace(
                landed=0,
                counted=0,
                send=lambda _ident, since: self.interrupts.append(since),
            ),
        )
        thread = FakeThread(self.service)
        self.overdue = Overdue(
            cast("Any", [thread]),
            timeout_s,
            cast("Any", SimpleNamespace(send=self.sent.append)),
            cast("Any", SimpleNamespace(error=lambda _event, **kw: self.logged.append(kw))),
        )


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_request_within_its_time_is_left_alone(stage: Stage) -> None:
    stage.row.since = 100.0
    stage.overdue.look(101.0)
    stage.overdue.look(100.0 + TIMEOUT_S)
    assert stage.counted == []


def test_an_overdue_request_is_logged_and_interrupted_once_and_its_worker_replaced_once(
    stage: Stage,
) -> None:
    stage.row.since = 100.0
    late = 100.1 + TIMEOUT_S
    stage.overdue.look(late)
    stage.overdue.look(late + INTERRUPT_GRACE_S)
    assert stage.counted == ["logged"]
    assert stage.interrupts == [100.0]
    assert stage.logged[0]["target"] == "/x"
    assert "test_overdue.py" in stage.logged[0]["stack"]

    for seconds in (0.1, 1.0, 50.0):
        stage.overdue.look(late + INTERRUPT_GRACE_S + seconds)
    assert stage.counted == ["logged", "worker_replaced"]
    assert stage.sent == [RetireRequested("request_timeout")]


def test_a_request_that_sends_has_its_time_anew(stage: Stage) -> None:
    stage.row.since = 100.0
    for turn in range(1, 5):
        stage.overdue.look(100.0 + turn * TIMEOUT_S)
        stage.service.exchange.sent += 1
    assert stage.counted == []

    stage.overdue.look(100.0 + 4 * TIMEOUT_S)
    stage.overdue.look(100.1 + 5 * TIMEOUT_S)
    assert stage.counted == ["logged"]


def test_a_stream_seen_for_the_first_time_has_just_sent(stage: Stage) -> None:
    """The first look may come later than the timeout: what has left till then counts."""
    stage.row.since = 100.0
    stage.service.exchange.sent = 10
    stage.overdue.look(101.0 + TIMEOUT_S)
    stage.overdue.look(100.5 + 2 * TIMEOUT_S)
    assert stage.counted == []

    stage.overdue.look(101.5 + 2 * TIMEOUT_S)
    assert stage.counted == ["logged"]


def test_waiting_for_the_client_is_no_time_of_the_application(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back from a client that was slower than the timeout, it has all of its time for more."""
    stage.row.since = 100.0
    stage.service.exchange.sent, stage.service.exchange.started = 10, True
    stage.overdue.look(101.0)
    with monkeypatch.context() as waiting:
        # The look itself is where this thread is.
        waiting.setattr(overdue, "wire", overdue)
        for seconds in range(2, 90):
            stage.overdue.look(100.0 + seconds)
    stage.overdue.look(189.0 + TIMEOUT_S)
    assert stage.counted == []

    stage.overdue.look(190.0 + TIMEOUT_S)
    assert stage.counted == ["logged"]


def test_an_interruption_counts_when_it_has_reached_the_application(stage: Stage) -> None:
    stage.row.since = 100.0
    stage.overdue.look(101.0 + TIMEOUT_S)
    stage.service.interruption.landed = 1
    stage.row.since = 0.0
    stage.overdue.look(102.0 + TIMEOUT_S)
    stage.overdue.look(103.0 + TIMEOUT_S)
    assert stage.counted == ["logged", "interrupted"]


def test_the_next_request_of_the_thread_has_its_own_time(stage: Stage) -> None:
    stage.row.since = 100.0
    stage.overdue.look(101.0 + TIMEOUT_S)
    stage.row.since = 102.0 + TIMEOUT_S
    stage.overdue.look(103.0 + TIMEOUT_S + INTERRUPT_GRACE_S)
    assert stage.counted == ["logged"]


def test_no_timeout_is_never() -> None:
    stage = Stage(0.0)
    stage.row.since = 100.0
    stage.overdue.look(1e9)
    assert stage.counted == []


LATE = """
import threading
from gthreadsrv.worker.interrupt import RequestTimeoutError, raise_in, take_back

assert raise_in(0) is False
assert take_back()
try:
    raise_in(threading.get_ident())
except RequestTimeoutError:
    print("raised")
assert take_back()
for _ in range(1000):
    threading.get_ident()
print("over")
"""


def test_an_interruption_that_comes_too_late_is_taken_back() -> None:
    """Raised once, and nothing afterwards. Without the trace function of a coverage tool."""
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    done = subprocess.run(
        [sys.executable, "-c", LATE], env=environ, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["raised", "over"], done.stderr


def test_a_traced_thread_is_not_interrupted() -> None:
    """It would spin for ever; its worker is replaced instead."""
    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        assert raise_in(threading.get_ident()) is False
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("step", ["before", "inside"])
def test_a_request_that_ends_as_it_is_interrupted_breaks_nothing(
    make_rig: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The thread takes back what it has not met, and serves on."""
    taken_back: list[int] = []
    rig: Rig

    def app(_environ: Any, start_response: Any) -> list[bytes]:
        rig.service.interruption.since, rig.service.interruption._raised = 1.0, True
        if step == "inside":
            raise RequestTimeoutError
        start_response("200 OK", [])
        return [b"done"]

    rig = make_rig(app)

    def take_back() -> bool:
        taken_back.append(1)
        return step == "inside"

    monkeypatch.setattr("gthreadsrv.worker.interrupt.take_back", take_back)
    answer = rig.exchange(GET)
    assert answer.startswith(b"HTTP/1.1 504" if step == "inside" else b"HTTP/1.1 200")
    assert taken_back == [1]
    assert rig.service.interruption.since == 0.0
    assert rig.service.interruption.landed == (step == "inside")
    assert rig.errors() == {}


def test_a_request_that_ends_while_it_is_reported_leaves_its_thread_alone(make_live: Any) -> None:
    """Writing the log line takes its time; then the thread waits for the next request."""
    gate = Gate()
    live: Live = make_live(gate, threads=1)

    def end(_event: str, **_fields: object) -> None:
        gate.let_out("/hold")
        assert read_response(client) == (200, b"/hold")
        wait_until(lambda: live.responses() == 1)

    with running(live):
        client = live.connect()
        client.sendall(get("/hold"))
        gate.wait_inside("/hold")
        log = cast("Any", SimpleNamespace(error=end))
        overdue = Overdue(live.threads, TIMEOUT_S, cast("Any", None), log)
        overdue.look(time.monotonic() + 2 * TIMEOUT_S)
        client.sendall(get("/next"))
        assert read_response(client) == (200, b"/next")
    assert live.services[0].interruption.landed == 0


def test_a_thread_that_leaves_the_application_waits_for_what_is_sent_to_it(
    make_live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is out before the exception is in: that then neither ends it nor its next request."""
    gate = Gate()
    live: Live = make_live(gate, threads=1)
    service = live.services[0]

    def late(ident: int) -> bool:
        gate.let_out("/hold")
        wait_until(lambda: not service.interruption.inside_since, "out of the application")
        return raise_in(ident)

    monkeypatch.setattr("gthreadsrv.worker.interrupt.raise_in", late)
    with running(live):
        client = live.connect()
        client.sendall(get("/hold"))
        gate.wait_inside("/hold")
        service.interruption.send(live.threads[0].ident or 0, service.row.since)
        assert read_response(client) == (200, b"/hold")
        client.sendall(get("/next"))
        assert read_response(client) == (200, b"/next")
    assert service.interruption.landed == 0
    assert service.interruption.since == 0.0


def test_an_application_that_has_failed_is_not_interrupted_any_more(
    make_live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own time limit is often the same: the exception must not meet our answer for it."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/bad":
            raise TimeoutError
        start_response("200 OK", [])
        return [b"well"]

    live: Live = make_live(app, threads=1)
    service = live.services[0]
    monkeypatch.setattr(
        live.log,
        "error",
        lambda _event, **_: service.interruption.send(
            live.threads[0].ident or 0, service.row.since
        ),
    )
    with running(live):
        client = live.connect()
        client.sendall(get("/bad"))
        assert read_response(client)[0] == 500
        client.sendall(get("/well"))
        assert read_response(client) == (200, b"well")


def test_an_iterable_is_closed_although_an_interruption_comes_in_between(make_live: Any) -> None:
    """Between its last piece and close(): what the application holds is given back."""
    closed: list[int] = []

    class Body:
        def __iter__(self) -> Any:
            return iter([b"well"])

        @property
        def close(self) -> Any:
            service.interruption.send(live.threads[0].ident or 0, service.row.since)
            return lambda: closed.append(1)

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "4")])
        return Body()

    live: Live = make_live(app, threads=1)
    service = live.services[0]
    with running(live):
        client = live.connect()
        for _ in range(2):
            client.sendall(get("/"))
            assert read_response(client) == (200, b"well")
        wait_until(lambda: len(closed) == 2, "closed")


def test_an_application_that_returns_is_not_interrupted_on_the_way(
    make_rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the exception would take the place of the result, which nobody could close then."""
    sent: list[int] = []
    monkeypatch.setattr(
        "gthreadsrv.worker.interrupt.raise_in", lambda ident: bool(sent.append(ident))
    )
    service = make_rig().service
    caller = threading.get_ident()
    frames = {caller: SimpleNamespace(f_code=SimpleNamespace(co_filename=service_module.__file__))}
    monkeypatch.setattr(interrupt_module.sys, "_current_frames", lambda: frames)
    service.interruption.inside_since = 7.0
    service.interruption.send(caller, 7.0)
    assert sent == []
    # It has come to the application's next piece by the third look.
    looks = iter([*[service_module.__file__] * 2, "app.py"])

    def current_frames() -> dict[int, object]:
        frames[caller].f_code.co_filename = next(looks)
        return dict(frames)

    monkeypatch.setattr(interrupt_module.sys, "_current_frames", current_frames)
    service.interruption.send(caller, 7.0)
    assert sent == [caller]


@pytest.mark.parametrize("where", ["logging", "queue"])
def test_an_interruption_leaves_no_lock_of_the_library_taken(where: str) -> None:
    """Without the trace function of a coverage tool."""
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.worker.interrupted", where],
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "no lock is taken\n", done.stderr
