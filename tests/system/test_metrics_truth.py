"""Metrics held to what clients and the application have seen themselves."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.system.client import Connection, build_request
from tests.system.conftest import Servers, bind_for
from tests.system.harness import Server, open_socket, read_record, wait_until

# From the server's look at the clock to the application's own, and from send() to the kernel's
# stamp; the issue of these tests is a wait of a second.
CLOCK_S = 0.005


@dataclass
class Sent:
    """A request under way, and between which instants of the wall clock the kernel got it."""

    connection: Connection
    before: float
    after: float

    def times(self) -> dict[str, float]:
        """What the application said."""
        found: dict[str, float] = json.loads(self.connection.response().body)
        return found


def send(connection: Connection, target: str) -> Sent:
    """Send one request, and note when."""
    request = build_request("GET", target)
    before = time.time()
    connection.send(request)
    return Sent(connection, before, time.time())


@pytest.mark.parametrize("transport", ["tcp", "unix"])
@pytest.mark.parametrize("threads", [1, 2])
def test_queue_time_is_what_requests_have_waited(
    serve: Servers, transport: str, threads: int
) -> None:
    """On a new connection, a kept-alive one, and pipelined: with all threads held for a second.

    On TCP the kernel says when the bytes came. On a unix socket user space sees them when it
    reads them, so that the wait in the kernel's queue is not in it: `source` tells.
    """
    server = serve(
        "clock:app", bind=(bind_for(transport, serve.folder),), threads=threads, metrics=True
    )
    server.wait_ready()
    with ExitStack() as stack:
        kept = stack.enter_context(server.connect())
        kept.get("/")
        holding = [stack.enter_context(server.connect()) for _ in range(threads)]
        name = "gthreadsrv_request_queue_seconds_sum"
        before = {source: server.sample(name, source=source) for source in ("kernel", "user")}
        sent = [send(connection, "/sleep?s=1") for connection in holding]
        wait_until(lambda: server.sample("gthreadsrv_threads_busy") == threads)
        waiting = [
            send(kept, "/"),
            send(stack.enter_context(server.connect()), "/"),
            send(holding[0], "/"),
        ]
        # Both on one connection are read at once. When the first came the kernel does not tell
        # any more: it is left to user space, and the other one's time is its own.
        wait_until(lambda: time.time() > waiting[0].after + 0.2)
        waiting.append(send(kept, "/"))
        low = high = 0.0
        for one in [*sent, *waiting]:
            entered = one.times()["entered_wall"]
            if one is waiting[0]:
                continue
            low += entered - one.after - CLOCK_S
            high += entered - one.before + CLOCK_S

        def waited() -> dict[str, float]:
            return {key: server.sample(name, source=key) - value for key, value in before.items()}

        wait_until(lambda: server.sample("gthreadsrv_threads_busy") == 0)
        found = waited()
    assert high > 1.5, "nobody waited"
    if transport == "tcp":
        assert low <= found["kernel"] <= high
        assert 0 < found["user"] < 0.2
    else:
        assert 0 <= found["user"] <= high
        assert found["kernel"] == 0


def test_busy_time_is_the_work_that_was_done(serve: Servers) -> None:
    """Within one percent over a window that begins and ends in the middle of requests."""
    server = serve("clock:app", workers=2, threads=2, metrics=True)
    server.wait_ready()
    name = "gthreadsrv_thread_busy_seconds_total"
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(4)]
        first = send(connections[0], "/sleep?s=2")
        wait_until(lambda: server.sample("gthreadsrv_threads_busy") == 1)
        begun = _scrape(server, name)
        whole = [send(connection, "/sleep?s=1.2").times() for connection in connections[1:]]
        last = send(connections[1], "/sleep?s=1")
        wait_until(lambda: server.sample("gthreadsrv_threads_busy") >= 1)
        early = first.times()
        ended = _scrape(server, name)
        late = last.times()
    assert late["entered"] < ended[0] < late["left"]
    work = sum(times["left"] - times["entered"] for times in whole)
    low = work + (early["left"] - begun[2]) + (ended[0] - late["entered"])
    high = work + (early["left"] - begun[0]) + (ended[2] - late["entered"])

    assert low * 0.99 <= ended[1] - begun[1] <= high * 1.01


def _scrape(server: Server, name: str) -> tuple[float, float, float]:
    """A metric's sum, between the instants of the monotonic clock within which it was read."""
    before = time.monotonic()
    value = server.sample(name)
    return before, value, time.monotonic()


class Clients:
    """They ask without end, and count what they got whole and what they did not."""

    def __init__(self, server: Server, count: int = 4) -> None:
        """Nothing is sent before the with block."""
        self.address = server.address
        self.whole = 0
        self.cut = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def __enter__(self) -> Clients:  # noqa: PYI034
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            asked = False
            try:
                with Connection(open_socket(self.address)) as connection:
                    while not self._stop.is_set():
                        connection.request("GET", "/hello")
                        asked = True
                        response = connection.response()
                        asked = False
                        with self._lock:
                            self.whole += 1
                        if response.header("Connection") == "close":
                            break
            except (OSError, AssertionError):
                with self._lock:
                    self.cut += asked


@pytest.mark.parametrize("kill", [False, True])
def test_counts_are_exact_whatever_happens_to_the_workers(serve: Servers, kill: bool) -> None:
    """Reloads, scaling and recycling in a random order, under load; or kill -9 among them.

    A killed worker's running requests are excepted: one that was killed between its last byte
    and its count reached the client uncounted, one cut off was perhaps counted.
    """
    server = serve(
        "behaviours:app", "--max-requests", "200", "--max-requests-jitter", "100",
        workers=2, threads=2, metrics=True, allow_errors=True,
    )  # fmt: skip
    server.wait_ready()
    chance = random.Random(7)
    seen: dict[Any, float] = {}
    steps = [signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, *[signal.SIGKILL] * kill]
    running = 0
    with Clients(server) as clients:
        for number in range(24):
            step = chance.choice(steps)
            if step is signal.SIGKILL:
                pids = server.worker_pids()
                if pids:
                    os.kill(chance.choice(pids), step)
                    running += 2
            else:
                server.send_signal(step)
            goal = clients.whole + 100
            wait_until(lambda goal=goal: clients.whole >= goal, what=server.report())
            _no_step_back(server, seen, number)
    assert clients.whole >= 2400
    wait_until(lambda: server.sample("gthreadsrv_threads_busy") == 0)
    total = server.sample("gthreadsrv_requests_total")

    assert clients.whole - running <= total <= clients.whole + clients.cut
    assert kill or (clients.cut == 0 and total == clients.whole)
    assert server.sample("gthreadsrv_request_duration_seconds_count") == total
    assert server.sample("gthreadsrv_application_seconds_count") == total
    kinds = server.samples("gthreadsrv_worker_exits_total")
    assert sum(kinds.values()) > 3


def _no_step_back(server: Server, seen: dict[Any, float], number: int) -> None:
    """Every counter of the page is at least what it was."""
    from prometheus_client.parser import text_string_to_metric_families

    for family in text_string_to_metric_families(server.probe("/metrics").text):
        if family.type not in ("counter", "histogram"):
            continue
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert sample.value >= seen.get(key, 0.0), f"{key} stepped back at step {number}"
            seen[key] = sample.value


@contextmanager
def trouble(serve: Servers, kind: str) -> Iterator[Server]:
    """A server in the middle of it."""
    record, go_on = serve.folder / "record", serve.folder / "go"
    if kind == "crash loop":
        server = serve("dying:app", workers=2, metrics=True, allow_errors=True)
        server.wait_log("worker died", 3)
        yield server
        return
    app = "clock:app" if kind == "interpreter held" else "behaviours:app"
    server = serve(
        app, "--timeout", "60", workers=2, threads=2, metrics=True, env={"RECORD": str(record)}
    )
    server.wait_ready()
    with ExitStack() as stack:
        if kind == "interpreter held":
            connection = stack.enter_context(server.connect(timeout_s=30))
            connection.request("GET", "/hold?s=4")
            wait_until(lambda: server.sample("gthreadsrv_threads_busy") == 1)
        elif kind == "threads stuck":
            connections = [stack.enter_context(server.connect()) for _ in range(4)]
            for connection in connections:
                connection.request("GET", f"/hold?until={go_on}")
            wait_until(lambda: read_record(record).count("holding") == 4)
        else:
            server.send_signal(signal.SIGHUP)
        yield server
        go_on.touch()


@pytest.mark.parametrize("kind", ["threads stuck", "interpreter held", "crash loop", "reload"])
def test_the_page_is_there_when_it_matters(serve: Servers, kind: str) -> None:
    """It answers, and says what the trouble is.  How quickly: tests/bench/exporter.py."""
    with trouble(serve, kind) as server:
        for _ in range(20):
            assert server.probe("/metrics").status_code == 200
        if kind == "threads stuck":
            assert server.sample("gthreadsrv_threads_busy") == 4
            assert server.sample("gthreadsrv_saturated_seconds_total") > 0
        elif kind == "interpreter held":
            wait_until(
                lambda: max(
                    server.samples("gthreadsrv_worker_heartbeat_age_seconds").values(), default=0
                ) > 2,
                what="an old heartbeat",
            )  # fmt: skip
        elif kind == "crash loop":
            crashes = server.sample("gthreadsrv_worker_exits_total", reason="crash")
            boots = server.sample("gthreadsrv_worker_exits_total", reason="boot_error")
            assert crashes + boots >= 3
        else:
            server.wait_log("reloaded")
            assert server.sample("gthreadsrv_reloads_total", result="ok") == 1
            wait_until(lambda: server.sample("gthreadsrv_worker_exits_total", reason="reload") == 2)
