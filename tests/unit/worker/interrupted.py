"""Requests that are interrupted inside the standard library: `python -m tests.unit.worker.interrupted`.

A process of its own, in which no tool traces: a traced thread is not interrupted.
"""

from __future__ import annotations

import io
import logging
import os
import queue
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from gthreadsrv.worker.interrupt import Interruption, RequestTimeoutError
from tests.unit.worker.rig import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable


class Interrupted:
    """A thread in the application, which is then interrupted."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.met = False
        self.interruption = Interruption("home.py")
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.interruption.inside_since = 1.0
        try:
            self._work()
        except RequestTimeoutError:
            self.met = True
        self.interruption.inside_since = 0.0
        self.interruption.settle()

    def wait_in(self, name: str) -> None:
        """Wait until it is in a function of that name."""
        ident = self._thread.ident or 0
        wait_until(lambda: sys._current_frames()[ident].f_code.co_name == name, f"in {name}()")

    def send(self) -> None:
        """Interrupt it."""
        self.interruption.send(self._thread.ident or 0, 1.0)

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(10)
        assert not self._thread.is_alive()


def in_logging() -> None:
    """Its locks are taken and freed by Python code: raised there, it would be the end of all logging."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while os.write(writer, bytes(4096)):
            pass
    os.set_blocking(writer, True)
    stream = io.TextIOWrapper(io.FileIO(writer, "w"), write_through=True)
    handler = logging.StreamHandler(stream)
    thread = Interrupted(lambda: handler.handle(logging.makeLogRecord({"msg": "x"})))
    thread.wait_in("emit")
    thread.send()
    while os.read(reader, 65536)[-1:] != b"\n":
        pass
    thread.join()
    assert not thread.met
    assert handler.lock is not None
    assert handler.lock.acquire(blocking=False)
    handler.lock.release()
    stream.close()
    os.close(reader)


def in_a_queue() -> None:
    """Who waits for one may be interrupted: it gives back what it holds."""
    waiting: queue.Queue[int] = queue.Queue()
    thread = Interrupted(waiting.get)
    thread.wait_in("wait")
    thread.send()
    waiting.put(1)
    thread.join()
    assert thread.met
    assert waiting.mutex.acquire(blocking=False)


if __name__ == "__main__":
    {"logging": in_logging, "queue": in_a_queue}[sys.argv[1]]()
    sys.stdout.write("no lock is taken\n")
