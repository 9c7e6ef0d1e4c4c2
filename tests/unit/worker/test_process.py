"""A worker process from its start to its exit, spoken to as its master and clients do."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

import pytest

from gthreadsrv.settings import Settings
from gthreadsrv.worker import outbox, spool, upload
from gthreadsrv.worker.channel import BootFailed, MasterChannel, RetireRequested, WorkerReady
from gthreadsrv.worker.process import EXIT_NO_APPLICATION, _GcWatch, _request_limit, fit_into
from gthreadsrv_metrics.layout import S_GC_COLLECTIONS, S_GC_PAUSE
from gthreadsrv_metrics.scoreboard import Scoreboard
from tests.unit.worker.rig import DEADLINE_S, GET, get, read_response, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gthreadsrv.worker.channel import Message


class Start(Protocol):
    """Starts workers."""

    def __call__(self, mode: str = "serve", *values: str) -> Worker: ...


class Worker:
    """The process, the master's end of its line, and its clients."""

    def __init__(self, path: Path, mode: str, *values: str) -> None:
        self.path = path
        ours, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.unit.worker.worker_process",
                str(path), str(theirs.fileno()), mode, *values,
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        theirs.close()
        self.channel = MasterChannel(ours)
        self.messages: list[Message] = []
        self.clients: list[socket.socket] = []

    def hear(self, count: int) -> list[Message]:
        """Wait for this many messages in all."""

        def heard() -> bool:
            self.messages += self.channel.receive()
            return len(self.messages) >= count or self.channel.ended

        wait_until(heard, f"{count} messages")
        return self.messages

    def client(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(DEADLINE_S)
        client.connect(str(self.path))
        self.clients.append(client)
        return client

    def ask(self, data: bytes = GET) -> tuple[int, bytes]:
        client = self.client()
        client.sendall(data)
        answer = read_response(client)
        client.close()
        return answer

    def hold(self) -> socket.socket:
        """A client whose request is inside the application."""
        client = self.client()
        client.sendall(get("/hold"))
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"held\n"
        return client

    def let_out(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"x")
        self.process.stdin.flush()

    def end(self) -> int:
        """Wait for its end; the exit status."""
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        for client in self.clients:
            client.close()
        self.channel.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    made: list[Worker] = []

    def start(mode: str = "serve", *values: str) -> Worker:
        made.append(Worker(tmp_path / f"{len(made)}", mode, *values))
        return made[-1]

    yield start
    for worker in made:
        worker.close()


def test_a_worker_says_when_it_is_ready_and_drains_at_term(start: Start) -> None:
    """It serves, finishes what runs, and leaves with 0."""
    worker = start()
    assert worker.hear(1) == [WorkerReady()]
    assert worker.ask() == (200, str(worker.process.pid).encode())
    held = worker.hold()
    worker.process.send_signal(signal.SIGTERM)
    worker.process.send_signal(signal.SIGTERM)
    worker.let_out()

    assert read_response(held)[0] == 200
    held.close()
    assert worker.end() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_worker_leaves_at_once_when_told_to_be_quick(
    start: Start, number: signal.Signals
) -> None:
    """A running request does not keep it."""
    worker = start()
    worker.hear(1)
    held = worker.hold()
    worker.process.send_signal(number)

    assert worker.end() == 0
    assert held.recv(1) == b""


def test_a_signal_right_after_ready_is_heard(start: Start) -> None:
    """TERM on the heels of the message drains; it does not kill."""
    worker = start()
    worker.hear(1)
    worker.process.send_signal(signal.SIGTERM)

    assert worker.end() == 0


def test_a_worker_without_its_master_drains_and_leaves(start: Start) -> None:
    """The end of the line is the master's death; a running request is finished first."""
    worker = start()
    worker.hear(1)
    held = worker.hold()
    worker.channel.close()
    worker.let_out()

    assert read_response(held)[0] == 200
    held.close()
    assert worker.end() == 0


def test_an_application_that_does_not_load_is_reported(start: Start) -> None:
    """The master is told why, and the exit status says so, too."""
    worker = start("missing")

    assert worker.hear(1) == [BootFailed("there is no module called nowhere")]
    assert worker.end() == EXIT_NO_APPLICATION


def test_a_worker_at_its_request_limit_asks_once_and_serves_on(start: Start) -> None:
    """It goes on until its replacement is there."""
    worker = start("preload", "max_requests=3")
    worker.hear(1)
    for _ in range(3):
        assert worker.ask()[0] == 200
    assert worker.hear(2) == [WorkerReady(), RetireRequested("max_requests")]
    for _ in range(5):
        assert worker.ask()[0] == 200
    worker.process.send_signal(signal.SIGTERM)

    assert worker.end() == 0
    assert len(worker.hear(3)) == 2


def test_the_exporter_has_no_request_limit(start: Start) -> None:
    """It answers scrapes for as long as the server lives."""
    worker = start("exporter", "max_requests=1", "threads=1")
    worker.hear(1)
    for _ in range(3):
        assert worker.ask()[0] == 200
    worker.process.send_signal(signal.SIGTERM)

    assert worker.end() == 0
    assert worker.hear(2) == [WorkerReady()]


def test_stacks_are_shown_at_abort(start: Start) -> None:
    """SIGABRT is how the master asks a wedged worker for them."""
    worker = start()
    worker.hear(1)
    worker.hold()
    worker.process.send_signal(signal.SIGABRT)

    assert worker.end() == -signal.SIGABRT
    assert worker.process.stderr is not None
    assert b"worker_process.py" in worker.process.stderr.read()


def test_the_request_limit_is_spread() -> None:
    """Workers that started together do not leave together; without a limit there is none."""
    assert _request_limit(Settings()) == 0
    assert _request_limit(Settings(max_requests_jitter=50)) == 0
    assert _request_limit(Settings(max_requests=100)) == 100
    limits = {
        _request_limit(Settings(max_requests=100, max_requests_jitter=10)) for _ in range(300)
    }
    assert limits == set(range(100, 111))


def test_garbage_collections_are_timed() -> None:
    """Each is counted under its generation; one under way when the watch began is not."""
    board = Scoreboard(1, 1, [])
    watch = _GcWatch(board.slot(0))
    watch("stop", {"generation": 1})
    watch("start", {"generation": 2})
    watch("stop", {"generation": 2})
    cells = board.slot_cells(0)

    assert list(cells[S_GC_COLLECTIONS : S_GC_COLLECTIONS + 3]) == [0.0, 0.0, 1.0]
    assert 0.0 < cells[S_GC_PAUSE] < 1.0


def test_what_clients_may_fill_follows_the_containers_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slow clients of all workers together leave room for the application; never more than usual."""
    allowances = (outbox.ALLOWANCE, spool.ALLOWANCE, upload.ALLOWANCE)
    usual = [allowance.limit for allowance in allowances]
    for allowance in allowances:
        monkeypatch.setattr(allowance, "limit", allowance.limit)
    for memory in (None, 1 << 40):
        fit_into(memory, 4)
        assert [allowance.limit for allowance in allowances] == usual
    container, workers = 128 << 20, 2
    fit_into(container, workers)
    assert sum(allowance.limit for allowance in allowances) * workers < container / 2
