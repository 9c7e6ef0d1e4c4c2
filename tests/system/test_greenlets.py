"""Worker classes gevent and eventlet: what differs from threads, and that the rest does not.

The HTTP tests marked `greenlets` run on them as well.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.system import test_forks as forks
from tests.system import test_metrics_truth as truth
from tests.system import test_signals as signals
from tests.system.conftest import Servers
from tests.system.harness import Server, read_record, wait_until

APP = "greenlets:app"
CLASSES = ["gevent", "eventlet"]
BUSY = "gthreadsrv_thread_busy_seconds_total"
PLACES = ["file", "application", "preloaded"]


class GreenServers(Servers):
    """Starts servers of one worker class."""

    worker_class = "gevent"

    def __call__(self, app: str, *args: str, **kw: Any) -> Server:
        """Start one; ``threads`` are its greenlets."""
        return super().__call__(app, "--worker-class", self.worker_class, *args, **kw)


@pytest.fixture(params=CLASSES)
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GreenServers]:
    """Start servers of each class."""
    servers = GreenServers(tmp_path)
    servers.worker_class = request.param
    try:
        yield servers
    finally:
        servers.finish()


SCENARIOS: dict[str, Callable[[Servers], None]] = {
    "TERM finishes what runs": lambda serve: signals.test_term_finishes_what_runs(serve, "tcp"),
    "TERM under load": lambda serve: signals.test_term_under_load_resets_nobody(serve, True),
    "INT is quick": lambda serve: signals.test_int_and_quit_are_quick(serve, signal.SIGINT),
    "HUP under load": lambda serve: signals.test_hup_replaces_every_worker_and_loses_nothing(
        serve, True, "tcp"
    ),
    "a child ended": forks.test_terminating_a_child_of_the_application_ends_the_child_alone,
    "a child that returns": lambda serve: (
        forks.test_child_that_comes_back_from_the_application_ends(serve, "/return", 0)
    ),
}


@pytest.mark.parametrize(
    ("serve", "name"),
    [*[("gevent", name) for name in SCENARIOS], ("eventlet", "HUP under load")],
    indirect=["serve"],
)
def test_as_with_threads(serve: GreenServers, name: str) -> None:
    """What other modules ask of threads."""
    SCENARIOS[name](serve)


def test_two_hundred_requests_wait_at_once(serve: GreenServers) -> None:
    """In one worker, in little more than the time of one; and each of them is accounted for."""
    server = serve("clock:app", threads=None, metrics=True)
    server.wait_ready()
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(200)]
        begun = time.monotonic()
        for connection in connections:
            connection.request("GET", "/sleep?s=2")
        wait_until(lambda: server.sample("gthreadsrv_threads_busy") == 200)
        before, during, after = truth._scrape(server, BUSY)
        told = [json.loads(connection.response().body) for connection in connections]
        took = time.monotonic() - begun
    assert took < 60  # one after another they take four hundred seconds
    assert max(each["entered"] for each in told) < min(each["left"] for each in told)

    requests = wait_until(lambda: server.sample("gthreadsrv_requests_total") >= 200)
    assert requests
    assert server.sample("gthreadsrv_requests_total", code="200") == 200
    assert server.sample("gthreadsrv_threads") == 1000
    assert server.sample("gthreadsrv_threads_busy") == 0
    work = sum(each["left"] - each["entered"] for each in told)
    assert work * 0.99 <= server.sample(BUSY) <= work * 1.01
    if after < min(each["left"] for each in told):
        # In the middle of all of them.
        entered = sum(each["entered"] for each in told)
        assert (200 * before - entered) * 0.99 <= during <= (200 * after - entered) * 1.01
    assert server.samples("gthreadsrv_build_info", worker_class=serve.worker_class)


def test_a_blocking_socket_lets_others_run(serve: GreenServers) -> None:
    """A driver in Python waits for its database; another request is served meanwhile."""
    server = serve(APP)
    with closing(socket.create_server(("127.0.0.1", 0))) as database:
        database.settimeout(30)
        port = database.getsockname()[1]
        with server.connect() as waiting:
            waiting.request("GET", f"/database?port={port}")
            link, _ = database.accept()
            with closing(link):
                assert link.recv(100) == b"SELECT 1"
                assert server.get("/").body == b"well\n"
                waiting.expect_silence()
                link.sendall(b"one row")
            assert waiting.response().body == b"one row"


PIPELINE = b"GET /compute?s=0.02 HTTP/1.1\r\nHost: a\r\n\r\n" * 300


def test_a_pipeline_lets_others_run_between_its_requests(serve: GreenServers) -> None:
    """What one client has sent ahead is no reason for another to wait."""
    server = serve(APP)
    server.wait_log("worker ready")
    with server.connect() as ahead:
        ahead.send(PIPELINE)
        assert ahead.response().status == 200
        assert server.get("/").body == b"well\n"
        assert ahead.sock.recv(1 << 20).count(b"HTTP/1.1 200") < 250


def test_a_pipeline_lets_the_heart_beat(serve: GreenServers) -> None:
    """Also that of the only greenlet, which nobody is there to take the lead from."""
    server = serve(APP, "--timeout", "1", threads=1)
    server.wait_log("worker ready")
    with server.connect() as ahead:
        ahead.send(PIPELINE)
        assert all(ahead.response().status == 200 for _ in range(300))
    assert server.logged("worker silent") == []


def test_what_belongs_to_a_thread_belongs_to_a_greenlet(serve: GreenServers) -> None:
    """Its locals, and the request id in the lines that the application logs."""
    server = serve(APP)
    with ExitStack() as stack:
        connections = {name: stack.enter_context(server.connect()) for name in "abc"}
        for name, connection in connections.items():
            connection.request("GET", f"/own?name={name}&s=0.5", {"X-Request-Id": f"id-{name}"})
        assert {connection.response().body for connection in connections.values()} == {b"mine"}
    wait_until(lambda: len(server.stdout) == 6)
    lines = [json.loads(line) for line in server.stdout]
    assert all(line["request_id"] == f"id-{line['name']}" for line in lines)
    # All of them had begun before the first went on.
    assert [line["event"] for line in lines] == ["before"] * 3 + ["after"] * 3


def test_as_many_requests_as_connections_and_no_more(serve: GreenServers, tmp_path: Path) -> None:
    """`--worker-connections` is how many run at once; who comes later waits in the backlog."""
    record, go_on = tmp_path / "record", tmp_path / "go"
    server = serve(
        "behaviours:app", "--worker-connections", "3", threads=None, metrics=True,
        env={"RECORD": str(record)},
    )  # fmt: skip
    with ExitStack() as stack:
        running = [stack.enter_context(server.connect()) for _ in range(3)]
        for number, connection in enumerate(running):
            connection.request("GET", f"/hold?name={number}&until={go_on}")
        wait_until(lambda: read_record(record).count("holding") == 3)
        late = stack.enter_context(server.connect())
        late.request("GET", "/hello")
        wait_until(lambda: server.sample("gthreadsrv_saturated_seconds_total") > 0.2)
        late.expect_silence()
        assert server.sample("gthreadsrv_threads") == 3
        assert server.sample("gthreadsrv_threads_busy") == 3
        go_on.touch()
        assert [connection.response().status for connection in running] == [200] * 3
        for connection in running:
            connection.close()
        assert late.response().body == b"hello\n"


def test_a_child_waits_as_its_parent_does(serve: GreenServers) -> None:
    """It has a copy of every greenlet; the server's stand still in it, and its own go on."""
    server = serve(APP, "--timeout", "5", metrics=True)
    server.wait_ready()
    with ExitStack() as stack:
        waiting = [stack.enter_context(server.connect()) for _ in range(2)]
        for connection in waiting:
            connection.request("GET", "/sleep?s=1")
        child = stack.enter_context(server.connect())
        child.request("GET", "/fork?s=3")
        assert [connection.response().status for connection in waiting] == [200, 200]
        for connection in waiting:
            assert connection.get("/").body == b"well\n"
        assert child.response().body == b"7"
    # None of them was served by the child as well.
    assert server.sample("gthreadsrv_requests_total") == 5
    assert len(server.worker_pids()) == 1


def test_a_request_past_its_time_is_ended(serve: GreenServers) -> None:
    """Its stack is logged, its client gets 504, and the connection goes on."""
    server = serve(APP, "--timeout", "1", metrics=True, allow_errors=True)
    with server.connect() as connection:
        connection.request("GET", "/sleep?s=600")
        assert server.get("/").body == b"well\n"
        assert connection.response().status == 504
        assert connection.get("/").body == b"well\n"
    [line] = server.wait_log("request past its timeout")
    assert line["target"] == "/sleep?s=600"
    assert "apps/greenlets.py" in str(line["stack"])
    counted = "gthreadsrv_request_timeouts_total"
    wait_until(lambda: server.sample(counted, action="interrupted") == 1)
    assert server.sample(counted, action="worker_replaced") == 0


def test_computing_holds_up_all_and_the_master_sees_it(serve: GreenServers) -> None:
    """Nothing else runs in that worker, its heartbeat stays away, and it is replaced."""
    server = serve(APP, "--timeout", "1", metrics=True, allow_errors=True)
    [old] = server.wait_workers(1)
    with server.connect() as computing, server.connect() as other:
        computing.request("GET", "/compute?s=600")
        wait_until(lambda: server.sample("gthreadsrv_threads_busy") == 1)
        other.request("GET", "/")
        server.wait_log("worker silent")
        other.expect_silence()
        server.wait_log("worker ready", 2)
    wait_until(lambda: old not in server.worker_pids())
    assert server.get("/").body == b"well\n"
    assert server.sample("gthreadsrv_worker_exits_total", reason="heartbeat") == 1


def test_preloaded(serve: GreenServers, tmp_path: Path) -> None:
    """The master replaces what waits before the one import, and serves by no other class then."""
    (tmp_path / "gthreadsrv.conf.py").write_text(f"worker_class = {serve.worker_class!r}\n")
    server = Servers.__call__(serve, APP, "--preload", metrics=True, allow_errors=True, workers=2)
    server.wait_ready()
    assert server.get("/at-import").text == f"{server.pid} {serve.worker_class}"
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(8)]
        for connection in connections:
            connection.request("GET", "/sleep?s=0.3")
        assert [connection.response().status for connection in connections] == [200] * 8
    # The master still hears of its children.
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.wait_log("worker ready", 3)
    server.send_signal(signal.SIGHUP)
    server.wait_log("reloaded")
    assert server.get("/").body == b"well\n"

    (tmp_path / "gthreadsrv.conf.py").write_text("worker_class = 'gthread'\n")
    server.send_signal(signal.SIGHUP)
    [line] = server.wait_log("reload failed")
    assert f"was preloaded for {serve.worker_class}; restart the server" in str(line["detail"])
    assert server.get("/").body == b"well\n"
    assert server.probe("/readyz").status_code == 200


PATCHES = {
    "gevent": "from gevent import monkey\nmonkey.patch_all()\n",
    "eventlet": "import eventlet\neventlet.monkey_patch()\n",
}


@pytest.mark.parametrize(
    ("serve", "name", "place"),
    [
        *[("gevent", name, place) for name in ("gevent", "gthread") for place in PLACES],
        *[("eventlet", "eventlet", place) for place in PLACES],
    ],
    indirect=["serve"],
)
def test_whoever_patches_by_themselves_is_served_all_the_same(
    serve: GreenServers, name: str, place: str
) -> None:
    """In gunicorn.conf.py, or as the application's first line, as is published everywhere.

    Threads have become greenlets then, also where nobody has said so by --worker-class. The master
    goes on hearing of its children.
    """
    library = serve.worker_class
    in_file = place == "file"
    (serve.folder / "gunicorn.conf.py").write_text(
        f"worker_class = {name!r}\npreload_app = {place == 'preloaded'}\n"
        + (PATCHES[library] if in_file else "")
    )
    # eventlet's own advice is on standard error where others import it.
    server = Servers.__call__(
        serve, APP if in_file else "patched:app", metrics=True, allow_errors=True, threads=8,
        env={"LIBRARY": library},
    )  # fmt: skip
    server.wait_ready()
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(8)]
        for connection in connections:
            connection.request("GET", "/sleep?s=1")
        wait_until(lambda: server.sample("gthreadsrv_threads_busy") == 8)
        assert [connection.response().status for connection in connections] == [200] * 8
    assert server.get("/fork?s=0.1").body == b"7"

    killed = time.monotonic()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.wait_log("worker died")
    # Nobody tells a master that does not hear: it looks by itself every ten seconds.
    assert time.monotonic() - killed < 5
    server.wait_log("worker ready", 2)
    server.send_signal(signal.SIGHUP)
    server.wait_log("reloaded")
    assert server.get("/").body == b"well\n"
    stopped = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - stopped < 5
    assert bool(server.logged("threads are greenlets")) is (name == "gthread")
    if library == "gevent":
        assert server.noise == []


@pytest.mark.parametrize("name", ["gevent", "gthread"])
@pytest.mark.parametrize("serve", ["gevent"], indirect=True)
def test_looking_for_changed_code_holds_up_nobody(serve: GreenServers, name: str) -> None:
    """What waits for changes in C would: whatever class threads have become greenlets by."""
    code = serve.folder / "shop.py"
    code.write_text("from patched import app\n")
    server = Servers.__call__(
        serve, "shop:app", "--worker-class", name, "--reload", "--timeout", "1",
        allow_errors=True, env={"LIBRARY": "gevent"},
    )  # fmt: skip
    server.wait_log("worker ready")
    assert server.get("/").body == b"well\n"
    assert server.get("/sleep?s=3").status == 504
    code.write_text("from patched import app  # changed\n")
    server.wait_log("reloaded")
    assert server.logged("worker silent") == []


@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.parametrize("serve", ["gevent"], indirect=True)
def test_a_library_that_is_broken_is_one_line(serve: GreenServers, preload: bool) -> None:
    """A system library that it was built for may have gone."""
    (serve.folder / "gevent").mkdir()
    (serve.folder / "gevent" / "__init__.py").write_text("raise ImportError('no libev.so.4')\n")
    server = serve(APP, *["--preload"] * preload, allow_errors=True)
    assert server.wait_exit() == (2 if preload else 3)
    said = [*server.noise, *(str(line.get("detail")) for line in server.lines)]
    assert sum("gevent cannot be imported: no libev.so.4; install it anew" in x for x in said) >= 1
    assert not any("Traceback" in x for x in said)
    assert not server.logged("process failed")
