"""What is said to a service manager, and when there is something to say."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gthreadsrv.master.notify import Notifier
from gthreadsrv_metrics.scoreboard import Scoreboard

Notify = Callable[..., Notifier]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The other end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


@pytest.fixture
def board() -> Scoreboard:
    """A scoreboard with one ready worker of two threads."""
    board = Scoreboard(2, 2, ())
    board.master.lease(0, os.getpid(), 1, time.monotonic(), threads=2)
    board.master.set_state(0, "ready")
    board.slot(0).heartbeat(time.monotonic())
    return board


@pytest.fixture
def notify(board: Scoreboard) -> Iterator[Callable[..., Notifier]]:
    """Make notifiers that are closed in the end."""
    made: list[Notifier] = []

    def make(environ: dict[str, str], *, main: bool = True) -> Notifier:
        made.append(Notifier(environ, board, main=main))
        return made[-1]

    yield make
    for notifier in made:
        notifier.close_in_child()


def heard(manager: socket.socket) -> list[list[str]]:
    """All that has come."""
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode().split("\n"))
        except BlockingIOError:
            return found


def test_without_a_manager_there_is_never_anything_to_say(
    notify: Notify, board: Scoreboard
) -> None:
    """The master may sleep."""
    notifier = notify({"WATCHDOG_USEC": "1000"})
    notifier.ready(5.0)
    assert notifier.deadline == float("inf")
    notifier.tick(1e9, calm=True)


@pytest.mark.parametrize("name", ["vsock:2:1234", "relative", ""])
def test_other_kinds_of_addresses_are_left_alone(
    notify: Notify, board: Scoreboard, name: str
) -> None:
    """What systemd uses for whole machines is not for a server."""
    notifier = notify({"NOTIFY_SOCKET": name})
    notifier.ready(5.0)
    assert notifier.deadline == float("inf")


def test_the_watchdogs_pace(notify: Notify, manager: socket.socket, board: Scoreboard) -> None:
    """At half the time allowed, from the moment of readiness on; nothing in between."""
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "4000000"}
    notifier = notify(environ)
    now = time.monotonic()
    notifier.ready(now)
    assert heard(manager) == [["READY=1", "STATUS=0 of 2 threads busy"]]
    assert notifier.deadline == now
    notifier.tick(now, calm=False)
    assert heard(manager) == [["WATCHDOG=1"]]
    assert notifier.deadline == now + 2.0
    notifier.tick(now + 1.9, calm=False)
    assert heard(manager) == []
    notifier.tick(now + 2.0, calm=False)
    assert heard(manager) == [["WATCHDOG=1"]]


def test_a_status_that_has_changed_is_told(
    notify: Notify, manager: socket.socket, board: Scoreboard
) -> None:
    """And one that has not is not; without a watchdog it is looked at every ten seconds."""
    notifier = notify({"NOTIFY_SOCKET": manager.getsockname()})
    now = time.monotonic()
    notifier.ready(now)
    notifier.tick(now, calm=False)
    assert notifier.deadline == now + 10.0
    board.thread(0, 1).begin(now)
    notifier.tick(now + 10.0, calm=False)
    notifier.tick(now + 20.0, calm=False)
    assert heard(manager) == [
        ["READY=1", "STATUS=0 of 2 threads busy"],
        ["STATUS=1 of 2 threads busy"],
    ]


def test_nobody_ready_is_only_well_on_purpose(
    notify: Notify, manager: socket.socket, board: Scoreboard
) -> None:
    """A fleet that was sent away is calm; one that is just not there is not well."""
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "2000000"}
    notifier = notify(environ)
    now = time.monotonic()
    notifier.ready(now)
    board.master.release(0, now)
    heard(manager)
    notifier.tick(now, calm=False)
    assert heard(manager) == [["STATUS=0 of 0 threads busy"]]
    notifier.tick(now + 1.0, calm=True)
    assert heard(manager) == [["WATCHDOG=1"]]


def test_one_of_two_masters_speaks(
    notify: Notify, manager: socket.socket, board: Scoreboard
) -> None:
    """A new master is silent until it is the main process; an old one from its resignation on."""
    environ = {"NOTIFY_SOCKET": manager.getsockname()}
    old, new = notify(environ), notify(environ, main=False)
    new.ready(1.0)
    assert new.deadline == float("inf")
    old.resign(4711)
    old.stopping()
    new.take_over(2.0)
    new.take_over(3.0)
    assert heard(manager) == [["MAINPID=4711"], ["READY=1", "STATUS=0 of 2 threads busy"]]


def test_a_manager_that_does_not_listen(
    notify: Notify, manager: socket.socket, board: Scoreboard
) -> None:
    """A full queue stops nobody."""
    notifier = notify({"NOTIFY_SOCKET": manager.getsockname()})
    for _ in range(1000):
        notifier.stopping()
    assert 0 < len(heard(manager)) < 1000
    manager.close()
    notifier.stopping()


@pytest.mark.parametrize(("whose", "pace_s"), [("another", 10.0), ("ours", 0.5)])
def test_another_processs_watchdog_is_not_ours(
    notify: Notify, manager: socket.socket, whose: str, pace_s: float
) -> None:
    """WATCHDOG_PID names who is watched."""
    pid = os.getpid() if whose == "ours" else 1
    environ = {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(pid)}
    notifier = notify({"NOTIFY_SOCKET": manager.getsockname(), **environ})
    now = time.monotonic()
    notifier.ready(now)
    notifier.tick(now, calm=False)
    assert notifier.deadline == now + pace_s


def test_a_manager_that_is_not_there(notify: Notify, tmp_path: Path) -> None:
    """A notification nobody takes stops nothing."""
    notify({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready(1.0)


FOREGROUND = """
import os, pty, sys
background = sys.argv[1] == "background"
pid, fd = pty.fork()
if pid == 0:
    if background:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            os._exit(0)
        os.setpgid(0, 0)
    from gthreadsrv.master.signals import in_foreground
    os.write(1, str(in_foreground()).encode())
    os._exit(0)
text = b""
try:
    while data := os.read(fd, 1024):
        text += data
except OSError:  # Linux: the terminal's last user has gone
    pass
os.waitpid(pid, 0)
print(text.decode())
"""


@pytest.mark.parametrize(("where", "answer"), [("foreground", "True"), ("background", "False")])
def test_only_the_foreground_of_a_terminal_is_resized(where: str, answer: str) -> None:
    """WINCH comes from a terminal to the processes in its foreground, and to nobody else."""
    # In a process of its own: forking one that has threads is warned about.
    done = subprocess.run(
        [sys.executable, "-c", FOREGROUND, where],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == answer


def test_a_reload_before_anybody_has_served_says_nothing(
    notify: Notify, manager: socket.socket
) -> None:
    """However it ends, the service has not started by it; afterwards READY ends each."""
    notifier = notify({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.reloading()
    notifier.reloaded(1.0)
    assert heard(manager) == []
    notifier.ready(2.0)
    notifier.reloading()
    notifier.reloaded(3.0)
    assert [words[0] for words in heard(manager)] == ["READY=1", "RELOADING=1", "READY=1"]
