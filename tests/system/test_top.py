"""`gthreadsrvctl top` and `status` at a real server; `top` in a real terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.conftest import Servers
from tests.system.harness import Server, clean_environment, run_cli
from tests.system.test_signals import held

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b\].*?\x07")


def where(server: Server) -> tuple[str, str]:
    return ("--metrics-bind", server.metrics_url.removeprefix("http://"))


@pytest.fixture
def server(serve: Servers) -> Server:
    """Two workers of three threads, ready."""
    made = serve(
        "behaviours:app", workers=2, threads=3, metrics=True,
        env={"RECORD": str(serve.folder / "record")},
    )  # fmt: skip
    made.wait_workers(2)
    made.wait_ready()
    return made


class Terminal:
    """A terminal of 100 columns with `top` in it."""

    def __init__(self, argv: list[str]) -> None:
        self.fd, inside = pty.openpty()
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.before = termios.tcgetattr(inside)
        self.inside = inside
        # In a session of its own, whose terminal this is: Ctrl-C is then a signal.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *argv],
            stdin=inside, stdout=inside, stderr=inside, close_fds=True,
            env=clean_environment({"TERM": "xterm"}),
        )  # fmt: skip
        self.text = ""

    def wait_for(self, pattern: str) -> str:
        """Read until this is on the screen; all that has been since the last call."""
        deadline = time.monotonic() + 30
        while not re.search(pattern, ESCAPES.sub("", self.text)):
            assert time.monotonic() < deadline, self.text
            if select.select([self.fd], [], [], 0.5)[0]:
                self.text += os.read(self.fd, 65536).decode()
        seen, self.text = ESCAPES.sub("", self.text), ""
        return seen

    def press(self, keys: bytes) -> int:
        """Press, and read on until it ends; the exit code."""
        os.write(self.fd, keys)
        deadline = time.monotonic() + 30
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text
            if select.select([self.fd], [], [], 0.05)[0]:
                self.text += os.read(self.fd, 65536).decode()
        return self.process.returncode


@contextmanager
def terminal(*argv: str) -> Iterator[Terminal]:
    made = Terminal([sys.executable, "-m", "gthreadsrv.ctl", "top", *argv])
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.wait()
        os.close(made.fd)
        os.close(made.inside)


@pytest.mark.parametrize("keys", [b"q", b"\x03"], ids=["q", "Ctrl-C"])
def test_top_in_a_terminal(server: Server, tmp_path: Path, keys: bytes) -> None:
    """It shows each thread, sees one become busy, and leaves the terminal as it was."""
    with terminal(*where(server), "--seconds", "0.3") as screen:
        screen.wait_for(r"0 +··· ")
        with held(server, tmp_path) as (connection, go_on):
            seen = screen.wait_for(r"[01] +■·· ")
            assert "threads 1/6" in seen
            go_on.touch()
            assert connection.response().status == 200
        screen.wait_for("threads 0/6")
        assert screen.press(keys) == 0
        assert "\x1b[?1049l" in screen.text, "back from the second screen"
        assert termios.tcgetattr(screen.inside) == screen.before


def test_top_goes_on_while_nobody_answers(server: Server) -> None:
    """It says so, beside the last picture."""
    with terminal(*where(server), "--seconds", "0.3") as screen:
        screen.wait_for(r"0 +··· ")
        assert server.stop() == 0
        seen = screen.wait_for("does not answer")
        assert re.search(r"0 +··· ", seen)
        assert screen.press(b"q") == 0


def test_top_once_prints_a_frame(server: Server, tmp_path: Path) -> None:
    """Also where there is no terminal; with the rates between two looks."""
    args = ("top", "--once", "--seconds", "0.2", *where(server))
    done = run_cli(*args, cwd=tmp_path, module="gthreadsrv.ctl")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("gthreadsrv ")
    assert lines[1].startswith("requests 0.0/s")
    assert [line.split()[:2] for line in lines[-2:]] == [["0", "···"], ["1", "···"]]


def test_top_without_rich_is_one_line(tmp_path: Path) -> None:
    """What to install; exit code 1."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'rich' else real(name, *a)\n"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = run_cli("top", cwd=tmp_path, env={"PYTHONPATH": path}, module="gthreadsrv.ctl")
    assert done.returncode == 1
    assert done.stderr == (
        "gthreadsrvctl: error: top: the package rich is not installed; "
        "pip install 'gthreadsrv[top]'\n"
    )


def test_status_in_words_and_as_json(server: Server, tmp_path: Path) -> None:
    """The same look; 0 while it is ready."""
    assert server.get("/hello").status == 200
    done = run_cli("status", *where(server), cwd=tmp_path, module="gthreadsrv.ctl")
    assert (done.returncode, done.stderr) == (0, "")
    facts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert facts["ready"] == "yes"
    assert facts["workers"] == "2 ready of 2 wanted, 0 booting, 0 draining"
    assert facts["threads"].startswith("0 of 6 busy, ")

    done = run_cli("status", "--json", *where(server), cwd=tmp_path, module="gthreadsrv.ctl")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["ready"], told["reason"], told["requests"]) == (True, "", 1.0)
    assert [worker["threads"] for worker in told["workers"]] == [3, 3]
    assert not any(name.endswith("_per_s") for name in (*told, *told["workers"][0]))


def test_status_of_one_that_is_not_ready(serve: Servers) -> None:
    """1, with the reason in both."""
    go_on = serve.folder / "go"
    server = serve("slow_import:app", metrics=True, env={"VARIABLE": str(go_on)})
    run = lambda *args: run_cli(  # noqa: E731
        "status", *args, *where(server), cwd=serve.folder, module="gthreadsrv.ctl"
    )
    done = run()
    assert done.returncode == 1
    assert done.stdout.startswith("ready")
    assert "no: no worker is ready (booting)" in done.stdout
    told = json.loads(run("--json").stdout)
    assert (told["ready"], told["reason"]) == (False, "no worker is ready (booting)")
    go_on.touch()
    server.wait_ready()
