"""The load generator, against a small server of the standard library."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType

import pytest

from gthreadsrv.demo import ROUTES
from tests.unit.docker.files import DOCKER


@pytest.fixture(scope="module")
def load() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("load_script", DOCKER / "load.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Answers(BaseHTTPRequestHandler):
    """200 and a word, or 500 for /fail, on a kept connection."""

    protocol_version = "HTTP/1.1"
    asked: list[str] = []

    def do_GET(self) -> None:
        """Note and answer."""
        self.asked.append(self.path)
        self.send_response(500 if self.path == "/fail" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """A server's port."""
    Answers.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_every_request_is_sent_and_counted(load: ModuleType, port: int) -> None:
    """What was answered is what was asked, by status."""
    tally = load.run("127.0.0.1", port, 300.0, 4, 1.0, threading.Event())
    text = tally.describe()

    assert text.startswith(f"{len(Answers.asked)} requests, ")
    assert " x 200" in text
    assert set(Answers.asked) <= {path for path, _ in load.ROUTES}
    assert len(Answers.asked) > 100


def test_its_routes_are_the_demos(load: ModuleType) -> None:
    """And their shares are of a thousand."""
    assert {path.split("?")[0] for path, _ in load.ROUTES} <= set(ROUTES)
    assert sum(share for _, share in load.ROUTES) == 1000


def test_the_wave_is_around_the_rate(load: ModuleType) -> None:
    """It comes back to where it was, and the mean over a wave is the rate asked for."""
    steps = [load.rate_at(load.WAVE_S * step / 1000, 50.0) for step in range(1000)]
    assert sum(steps) / 1000 == pytest.approx(50.0)
    assert min(steps) > 0


def test_nobody_there_is_an_answer_too(load: ModuleType, port: int) -> None:
    """A refused connection is counted by its error, and the next request is tried all the same."""
    stop = threading.Event()
    tally = load.run("127.0.0.1", 1, 300.0, 2, 0.2, stop)
    assert "ConnectionRefusedError" in tally.describe()


@pytest.mark.parametrize("wrong", [["--url", "ftp://x"], ["--rate", "0"], ["--clients", "0"]])
def test_wrong_arguments(
    load: ModuleType, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 2."""
    with pytest.raises(SystemExit) as stopped:
        load.main(wrong)
    assert stopped.value.code == 2
    assert wrong[0] in capsys.readouterr().err
