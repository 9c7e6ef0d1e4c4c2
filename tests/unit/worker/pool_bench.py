"""A pool whose threads do not run: stubs to be looked at, and connections to hand around."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Any, cast

from gthreadsrv.worker.connection import Connection, State
from gthreadsrv.worker.pool import Pool
from gthreadsrv_metrics.layout import S_SATURATED
from gthreadsrv_metrics.scoreboard import Scoreboard
from gthreadsrv_metrics.slot_row import integral

if TYPE_CHECKING:
    from gthreadsrv.worker.ports import Port
    from gthreadsrv.worker.thread import PoolThread


class Stub:
    """A pool thread as the pool sees it: a task and a place to be parked."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.task: Any = None
        self.wake = threading.Lock()
        self.wake.acquire()

    @property
    def woken(self) -> bool:
        return not self.wake.locked()


class FakePort:
    """As much of a port as a connection keeps."""

    receive = None


class Bench:
    """A pool, stub threads and connections."""

    def __init__(self, threads: int = 0, max_requests: int = 0) -> None:
        self.board = Scoreboard(1, 1, [])
        self.pool = Pool(self.board.slot(0), max_requests)
        self.ends: list[socket.socket] = []
        self.threads = [cast("PoolThread", Stub(str(number))) for number in range(threads)]
        for thread in self.threads:
            self.pool.enlist(thread)

    def connection(self, state: State = State.ACTIVE) -> Connection:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.ends += [ours, theirs]
        connection = Connection(ours, cast("Port", FakePort), ("", ""), 1.0, trusted=False)
        connection.state = state
        self.pool.connections[connection.fd] = connection
        return connection

    def peer(self, connection: Connection) -> socket.socket:
        return self.ends[self.ends.index(connection.sock) + 1]

    def polled(self) -> dict[int, int]:
        """What the poller reports now, the poke pipe left out."""
        events = dict(self.pool.poller.poll(0))
        events.pop(self.pool.poke_fd, None)
        return events

    def saturated_s(self, now: float) -> float:
        return integral(self.board.slot_cells(0)[S_SATURATED], now)

    def close(self) -> None:
        for end in self.ends:
            end.close()
        self.pool.close()


def stub(thread: PoolThread | None) -> Stub:
    assert isinstance(thread, Stub)
    return thread


def rung(fd: int) -> bool:
    """Whether a wake-up pipe holds something, taking it out."""
    try:
        return bool(os.read(fd, 4096))
    except BlockingIOError:
        return False
