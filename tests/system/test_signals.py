"""Signals to the master, as gunicorn's users know them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.client import Connection
from tests.system.conftest import Servers, bind_for
from tests.system.harness import (
    Server,
    open_socket,
    process_alive,
    read_record,
    title,
    wait_until,
)


class Load:
    """Clients that ask again and again, retry nothing, and remember every failure."""

    def __init__(self, server: Server, target: str, keep_alive: bool) -> None:
        """Nothing is sent before `start`."""
        self.address = server.address
        self.target = target
        self.keep_alive = keep_alive
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def start(self) -> None:
        """Let the clients go."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait for the requests under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def dial(self) -> Connection:
        """One more connection."""
        return Connection(open_socket(self.address))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._converse()
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))

    def _converse(self) -> None:
        with self.dial() as connection:
            while not self._stop.is_set():
                connection.request(
                    "GET", self.target, {} if self.keep_alive else {"Connection": "close"}
                )
                response = connection.response()
                if response.status != 200:
                    self.failures.append(f"status {response.status}")
                self.answers.append(response.text)
                if response.header("Connection") == "close":
                    return


@contextmanager
def load(server: Server, target: str = "/who", keep_alive: bool = True) -> Iterator[Load]:
    """Clients at work during a with block."""
    clients = Load(server, target, keep_alive)
    clients.start()
    try:
        wait_until(lambda: clients.answers)
        yield clients
        seen = len(clients.answers)
        wait_until(lambda: len(clients.answers) >= seen + 4)
    finally:
        clients.stop()


@contextmanager
def held(server: Server, folder: Path) -> Iterator[tuple[Connection, Path]]:
    """A request that runs until the file is there."""
    record, go_on = folder / "record", folder / "go"
    with server.connect() as connection:
        connection.request("GET", f"/hold?name=held&until={go_on}")
        wait_until(lambda: "holding held" in read_record(record))
        yield connection, go_on


def refused(server: Server, address: str) -> bool:
    """Whether nobody accepts a new connection."""
    try:
        open_socket(address, timeout_s=0.2).close()
    except (ConnectionRefusedError, FileNotFoundError, TimeoutError):
        return True
    return False


def write_app(folder: Path, body: str) -> None:
    """An application that answers with this text."""
    (folder / "changing.py").write_text(
        f"{body}\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [ANSWER]\n"
    )


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_term_finishes_what_runs(serve: Servers, transport: str) -> None:
    """TERM: running requests are finished, new connections are not taken, exit code 0."""
    server = serve(
        "behaviours:app", bind=(bind_for(transport, serve.folder),), workers=2,
        env={"RECORD": str(serve.folder / "record")},
    )  # fmt: skip
    address = server.address
    server.wait_workers(2)
    with held(server, serve.folder) as (connection, go_on):
        server.send_signal(signal.SIGTERM)
        wait_until(lambda: refused(server, address), what="closed to new connections")
        wait_until(lambda: all("draining" in title(pid) for pid in server.worker_pids()))
        go_on.touch()
        response = connection.response()
        assert (response.status, response.header("Connection")) == (200, "close")
        connection.expect_close()
    assert server.wait_exit() == 0


def test_term_does_not_wait_for_idle_connections(serve: Servers) -> None:
    """Kept-alive and silent connections do not hold up the exit."""
    server = serve("behaviours:app")
    with server.connect() as idle, server.connect():
        idle.get("/hello")
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 5
        idle.expect_close()


def test_term_gives_up_after_graceful_timeout(serve: Servers) -> None:
    """A request that runs longer than --graceful-timeout does not keep the server alive."""
    server = serve(
        "behaviours:app", "--graceful-timeout", "1", allow_errors=True,
        env={"RECORD": str(serve.folder / "record")},
    )  # fmt: skip
    with held(server, serve.folder):
        started = time.monotonic()
        assert server.stop() == 0
        assert 0.5 < time.monotonic() - started < 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_are_quick(serve: Servers, number: signal.Signals) -> None:
    """INT and QUIT leave at once, whatever runs, with exit code 0."""
    server = serve(
        "behaviours:app", allow_errors=True, env={"RECORD": str(serve.folder / "record")}
    )
    with held(server, serve.folder):
        started = time.monotonic()
        assert server.stop(number) == 0
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("keep_alive", [True, False])
def test_term_under_load_resets_nobody(serve: Servers, keep_alive: bool) -> None:
    """Clients at work when the server leaves are refused at most, never cut off."""
    server = serve("behaviours:app", workers=2)
    clients = Load(server, "/hello", keep_alive)
    clients.start()
    try:
        wait_until(lambda: len(clients.answers) > 50)
        assert server.stop() == 0
    finally:
        clients.stop()

    unfair = [x for x in clients.failures if "Refused" not in x and "timed out" not in x]
    assert unfair == []


@pytest.mark.parametrize("transport", ["tcp", "unix"])
@pytest.mark.parametrize("keep_alive", [True, False])
def test_hup_replaces_every_worker_and_loses_nothing(
    serve: Servers, transport: str, keep_alive: bool
) -> None:
    """HUP under load: new workers serve before old ones leave, and no client notices."""
    server = serve("behaviours:app", bind=(bind_for(transport, serve.folder),), workers=2)
    old = server.wait_workers(2)
    with load(server, keep_alive=keep_alive) as clients:
        server.send_signal(signal.SIGHUP)
        server.wait_log("worker ready", count=4)
        wait_until(lambda: not any(process_alive(pid) for pid in old), what="old workers left")
    new = server.wait_workers(2)

    assert clients.failures == []
    assert not set(old) & set(new)


def test_hup_loads_new_code(serve: Servers) -> None:
    """After HUP the application is what the file says now."""
    write_app(serve.folder, "ANSWER = b'old'")
    server = serve("changing:app", "--chdir", str(serve.folder), workers=2)
    old = server.wait_workers(2)
    assert server.get("/").body == b"old"

    write_app(serve.folder, "ANSWER = b'newer'")
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: not any(process_alive(pid) for pid in old))

    assert server.get("/").body == b"newer"


def test_hup_into_broken_code_keeps_the_old_workers(serve: Servers) -> None:
    """When the new code cannot be loaded the old workers serve on, and the log says why."""
    write_app(serve.folder, "ANSWER = b'old'")
    server = serve("changing:app", "--chdir", str(serve.folder), workers=2, allow_errors=True)
    old = server.wait_workers(2)
    write_app(serve.folder, "raise RuntimeError('broken on purpose')")
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: "broken on purpose" in server.report())

    assert server.get("/").body == b"old"
    assert sorted(server.wait_workers(2)) == sorted(old)

    write_app(serve.folder, "ANSWER = b'mended'")
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: not any(process_alive(pid) for pid in old))
    assert server.get("/").body == b"mended"


def test_hup_with_a_broken_configuration_file_changes_nothing(serve: Servers) -> None:
    """A configuration file that no longer makes sense keeps the server as it is."""
    path = serve.folder / "conf.py"
    path.write_text("timeout = 20\n")
    server = serve("behaviours:app", "-c", str(path), workers=2, allow_errors=True)
    old = server.wait_workers(2)
    path.write_text("timeout = 'never mind'\n")
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: "conf.py" in repr([x for x in server.lines if x["level"] == "error"]))

    assert sorted(server.wait_workers(2)) == sorted(old)
    assert server.get("/hello").body == b"hello\n"


def test_ttin_and_ttou_change_the_number_of_workers(serve: Servers) -> None:
    """TTIN adds a worker, TTOU retires one, and the last one stays; no client notices."""
    server = serve("behaviours:app", workers=1)
    server.wait_workers(1)
    with load(server) as clients:
        server.send_signal(signal.SIGTTIN)
        server.wait_workers(2)
        server.send_signal(signal.SIGTTIN)
        three = server.wait_workers(3)
        server.send_signal(signal.SIGTTOU)
        two = server.wait_workers(2)
        server.send_signal(signal.SIGTTOU)
        [last] = server.wait_workers(1)
        server.send_signal(signal.SIGTTOU)
    assert clients.failures == []
    assert server.get("/hello").body == b"hello\n"
    assert server.wait_workers(1) == [last]
    assert {last} < set(two) < set(three)


def test_usr1_reopens_the_logs(serve: Servers) -> None:
    """After a rotation USR1 lets master and workers write to the new files, losing no line."""
    log, access = serve.folder / "error.log", serve.folder / "access.log"
    server = serve(
        "behaviours:app", "--error-logfile", str(log), "--access-logfile", str(access),
        bind=(f"unix:{serve.folder}/web.sock",), allow_errors=True,
    )  # fmt: skip
    address = f"unix:{serve.folder}/web.sock"
    wait_until(lambda: (serve.folder / "web.sock").exists())

    def fetch(target: str) -> None:
        with server.connect(address) as connection:
            connection.get(target)

    fetch("/hello?before")
    wait_until(lambda: "before" in access.read_text())
    log.rename(serve.folder / "error.log.1")
    access.rename(serve.folder / "access.log.1")
    server.send_signal(signal.SIGUSR1)
    wait_until(lambda: log.exists() and access.exists(), what="new files")

    def new_line_arrived() -> bool:
        fetch("/fail?after")
        return "after" in access.read_text() and "failed on purpose" in log.read_text()

    wait_until(new_line_arrived)
    assert server.stop() == 0
    old = (serve.folder / "access.log.1").read_text() + access.read_text()
    assert old.count("before") == 1
