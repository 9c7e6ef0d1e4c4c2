"""What greenlets need of the worker, without their libraries: those are in the system tests."""

from __future__ import annotations

import importlib.util
import os
import select
import socket
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from gthreadsrv import system
from gthreadsrv.errors import ConfigError
from gthreadsrv.settings import Settings
from gthreadsrv.worker import greenlets, interrupt, overdue, poller
from gthreadsrv.worker.interrupt import Interruption, RequestTimeoutError
from gthreadsrv.worker.poller import READ, WRITE, make_poller, wait_in, wait_writable
from tests.unit.worker.rig import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Loop:
    """Stands in for a library's event loop: notes each wait, and ends it when told to."""

    def __init__(self) -> None:
        self.waits: list[tuple[int, float | None]] = []
        self.early = 0

    def wait(self, fd: int, timeout_s: float | None) -> None:
        self.waits.append((fd, timeout_s))
        if self.early:
            self.early -= 1
            return
        select.select([fd], [], [], timeout_s)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    monkeypatch.setattr(poller, "_hub_wait", [])
    found = Loop()
    wait_in(found.wait)
    yield found


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_a_poller_waits_in_the_loop_even_when_something_is_there(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    made = make_poller()
    made.add(ours.fileno(), READ)
    theirs.send(b"x")
    assert made.poll(None) == [(ours.fileno(), READ)]
    assert made.poll(5.0) == [(ours.fileno(), READ)]
    assert [timeout_s for _, timeout_s in loop.waits] == [None, 5.0]
    made.close()


def test_a_wait_that_ends_early_is_taken_up_again(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    """A loop's clock is that of its last round, which may have been long ago."""
    made = make_poller()
    made.add(pair[0].fileno(), READ)
    loop.early = 3
    assert made.poll(0.05) == []
    assert len(loop.waits) >= 4
    made.close()


def test_in_a_forked_child_a_poller_never_returns(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    """There its descriptor has been closed, and whoever waits is a copy."""
    made = make_poller()
    made.add(pair[0].fileno(), READ)
    made.close()
    thread = threading.Thread(target=made.poll, args=(None,), daemon=True)
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    assert loop.waits == []


def test_a_poller_that_is_waited_for_keeps_its_number_when_it_is_closed(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    """The loop goes on watching that; nothing that its copy watched is heard of any more."""
    ours, theirs = pair
    made = make_poller()
    made.add(ours.fileno(), READ)
    found: list[list[tuple[int, int]]] = []
    thread = threading.Thread(target=lambda: found.append(made.poll(0.2)), daemon=True)
    thread.start()
    wait_until(lambda: loop.waits, "it waits")
    [(number, _)] = loop.waits
    made.close()
    theirs.send(b"x")
    thread.join(0.5)
    assert (thread.is_alive(), found) == (True, [])
    assert not select.select([number], [], [], 0)[0]
    os.close(number)


@pytest.mark.parametrize("in_loop", [True, False])
def test_waiting_for_room(
    in_loop: bool, pair: tuple[socket.socket, socket.socket], request: pytest.FixtureRequest
) -> None:
    if in_loop:
        request.getfixturevalue("loop")
    ours, theirs = pair
    before = len(os.listdir("/proc/self/fd"))
    assert wait_writable(ours.fileno(), 10.0)
    with pytest.raises(BlockingIOError):
        while True:
            ours.send(b"x" * 65536)
    assert not wait_writable(ours.fileno(), 0.01)
    theirs.close()
    assert wait_writable(ours.fileno(), None)
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert WRITE


def test_a_greenlet_is_interrupted_in_the_request_that_was_meant_and_in_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A greenlet is no thread of the interpreter's, whose own call would be for this one.
    monkeypatch.setattr(interrupt, "take_back", lambda: True)
    thrown: list[type[BaseException]] = []
    interruption = Interruption("home.py")
    interruption.inside_since = 5.0
    interruption.throw(thrown.append, 4.0)
    assert (thrown, interruption.since) == ([], 0.0)
    interruption.throw(thrown.append, 5.0)
    assert (thrown, interruption.since) == ([RequestTimeoutError], 5.0)
    interruption.settle()
    assert (interruption.landed, interruption.since) == (1, 0.0)


def test_waiting_for_the_client_is_seen_from_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """A greenlet's wire waits in a poller, and that in the library."""
    import sys

    def waits() -> bool:
        return overdue._waits_for_client(sys._getframe())

    assert not waits()
    monkeypatch.setattr(overdue, "wire", sys.modules[__name__])
    assert waits()


def test_threads_are_made_of_no_library() -> None:
    greenlets.check(Settings(worker_class="gthread"))
    assert greenlets.become("gthread") is None
    assert system.replaced_by() == ""


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"gevent is not installed; say pip install 'gthreadsrv"):
        greenlets.check(Settings(worker_class="gevent"))


def test_other_systems_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(ConfigError, match="eventlet needs Linux"):
        greenlets.check(Settings(worker_class="eventlet"))


def test_a_preloaded_master_has_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greenlets, "_made", {"gevent": cast("Any", object())})
    monkeypatch.setattr(greenlets, "replaced_by", lambda: "gevent")
    greenlets.check(Settings(worker_class="gevent"))
    for other in ("gthread", "sync", "eventlet"):
        with pytest.raises(ConfigError, match="preloaded for gevent; restart the server"):
            greenlets.check(Settings(worker_class=other))


def test_what_is_replaced_already_is_no_other_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration file has: threads are as good, since workers adopt the loop."""
    monkeypatch.setattr(greenlets, "replaced_by", lambda: "gevent")
    for name in ("gevent", "gthread", "sync"):
        greenlets.check(Settings(worker_class=name))
    with pytest.raises(ConfigError, match="eventlet, but gevent has replaced threads"):
        greenlets.check(Settings(worker_class="eventlet"))


def test_a_wait_is_seen(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    """What comes while the poller waits ends the wait."""
    ours, theirs = pair
    made = make_poller()
    made.add(ours.fileno(), READ)
    found: list[list[tuple[int, int]]] = []
    thread = threading.Thread(target=lambda: found.append(made.poll(None)))
    thread.start()
    wait_until(lambda: loop.waits, "it waits")
    theirs.send(b"x")
    thread.join(30)
    assert found == [[(ours.fileno(), READ)]]
    made.close()
