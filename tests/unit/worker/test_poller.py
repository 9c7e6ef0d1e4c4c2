"""Both pollers report the same: level-triggered, and without a complaint about what is gone."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gthreadsrv.worker import poller as module
from gthreadsrv.worker.poller import READ, WRITE, Poller, make_poller

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS: list[type[Any]] = [module._SelectorsPoller]
if sys.platform == "linux":
    KINDS.append(module._EpollPoller)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def poller(request: pytest.FixtureRequest) -> Iterator[Poller]:
    poller: Poller = request.param()
    yield poller
    poller.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_what_was_not_read_is_reported_again(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Level-triggered: no wake-up can be lost."""
    ours, theirs = pair
    poller.add(ours.fileno(), READ)
    assert poller.poll(0) == []

    theirs.send(b"x")
    assert poller.poll(0) == poller.poll(0) == [(ours.fileno(), READ)]

    ours.recv(1)
    assert poller.poll(0) == []


def test_adding_again_replaces_what_was_watched(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    """READ after WRITE is not both."""
    ours, _theirs = pair
    poller.add(ours.fileno(), WRITE)
    assert poller.poll(0) == [(ours.fileno(), WRITE)]

    poller.add(ours.fileno(), READ)
    assert poller.poll(0) == []


def test_removing_twice_or_what_was_never_there_is_nothing(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Owners may close what they have, watched or not."""
    ours, theirs = pair
    fd = ours.fileno()
    poller.add(fd, READ)
    theirs.send(b"x")
    poller.remove(fd)
    poller.remove(fd)
    poller.remove(theirs.fileno())
    poller.remove(4000)

    assert poller.poll(0) == []


def test_the_end_of_a_stream_is_reported_to_readers_and_writers(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    """A connection that waits for either hears that its client has gone."""
    ours, theirs = pair
    theirs.close()
    for events in (READ, WRITE):
        poller.add(ours.fileno(), events)
        assert [fd for fd, _ in poller.poll(0)] == [ours.fileno()]


def test_another_thread_may_add_while_one_waits(poller: Poller) -> None:
    """A wait without end returns for what was added meanwhile."""
    import threading

    read_end, write_end = os.pipe()
    os.write(write_end, b"x")
    wake_read, wake_write = os.pipe()
    poller.add(wake_read, READ)

    def add() -> None:
        poller.add(read_end, READ)
        # A selector in the standard library may need its own wake-up to see the change.
        os.write(wake_write, b"x")

    thread = threading.Thread(target=add)
    thread.start()
    seen: set[int] = set()
    while read_end not in seen:
        seen |= {fd for fd, _ in poller.poll(10)}
    thread.join()
    for fd in (read_end, write_end, wake_read, wake_write):
        poller.remove(fd)
        os.close(fd)


def test_no_more_than_a_batch_is_reported_and_nobody_starves() -> None:
    """With more ready descriptors than a batch holds, each has its turn."""
    if sys.platform != "linux":
        pytest.skip("batches are epoll's")
    poller = make_poller()
    pairs = [socket.socketpair() for _ in range(100)]
    for ours, theirs in pairs:
        poller.add(ours.fileno(), READ)
        theirs.send(b"x")
    first = {fd for fd, _ in poller.poll(0)}
    second = {fd for fd, _ in poller.poll(0)}

    assert len(first) < 100
    assert first | second == {ours.fileno() for ours, _ in pairs}
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
    poller.close()


def test_linux_has_epoll() -> None:
    """The best poller of the system is chosen."""
    poller = make_poller()
    expected = "_EpollPoller" if sys.platform == "linux" else "_SelectorsPoller"
    assert type(poller).__name__ == expected
    poller.close()
