"""The one place where the master waits: its signals and the lines to all its children.

Runs in the master's loop. Uses poll(2), which needs no descriptor of its own, so a child has
nothing more to close than these lines. Not here: what the news means.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gthreadsrv.system import POLLIN, system_poll

if TYPE_CHECKING:
    import socket

    from gthreadsrv.master.signals import SignalInbox
    from gthreadsrv.worker.channel import MasterChannel, Message


class Switchboard:
    """Lines by pid. A line that has ended is no longer watched; reaping closes it."""

    def __init__(self, signals: SignalInbox) -> None:
        self._poll = system_poll()
        self._poll.register(signals, POLLIN)
        self._lines: dict[int, MasterChannel] = {}
        self._pids: dict[int, int] = {}  # by descriptor

    def connect(self, pid: int, line: MasterChannel) -> None:
        """Watch a new child's line."""
        self._lines[pid] = line
        self._pids[line.fileno()] = pid
        self._poll.register(line, POLLIN)

    def watch(self, line: socket.socket) -> None:
        """Wake up for one more line, which its owner reads."""
        self._poll.register(line, POLLIN)

    def unwatch(self, line: socket.socket) -> None:
        """No longer."""
        self._poll.unregister(line)

    def wait(self, timeout_s: float) -> list[int]:
        """Sleep until something happens or the time is over; pids that have something to say."""
        # Rounded up: woken before the instant there would be nothing to do but to wait again.
        ready = self._poll.poll(math.ceil(max(0.0, timeout_s) * 1000))
        return [self._pids[fd] for fd, _ in ready if fd in self._pids]

    def hear(self, pid: int) -> list[Message]:
        """What a child has said since last time."""
        line = self._lines.get(pid)
        if line is None or line.ended:
            return []
        messages = line.receive()
        if line.ended:
            # An ended line is readable for ever; the process may yet take a while to exit.
            self._poll.unregister(line)
            del self._pids[line.fileno()]
        return messages

    def disconnect(self, pid: int) -> None:
        """The child is gone: close its line."""
        line = self._lines.pop(pid, None)
        if line is None:
            return
        if not line.ended:
            self._poll.unregister(line)
            del self._pids[line.fileno()]
        line.close()

    def close_in_child(self) -> None:
        """Let go of all lines: a copy kept here would hide the master's death from a sibling."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()
        self._pids.clear()
