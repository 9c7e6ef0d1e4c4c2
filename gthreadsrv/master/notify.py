"""What the service manager is told: systemd's notification protocol, sd_notify(3).

Datagrams of NAME=value lines to the socket that NOTIFY_SOCKET names, from the main process alone:
a successor is silent until its predecessor has made it the main process. Nothing is ever waited
for, and a manager that does not listen is no reason to stop. Runs in the master's loop.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from gthreadsrv import log as logs
from gthreadsrv_metrics import health
from gthreadsrv_metrics.reading import read_fleet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gthreadsrv_metrics.scoreboard import Scoreboard

# How often the status line is looked at where there is no watchdog that sets the pace.
_STATUS_S: Final = 10.0

log = logs.get_logger()


class Notifier:
    """The line to the service manager, if there is one. Owned by the master's only thread."""

    def __init__(self, environ: Mapping[str, str], board: Scoreboard, *, main: bool) -> None:
        """`environ` is that of the start; `main`: whether the manager takes us for its service."""
        self._board = board
        self._main = main
        self._sock: socket.socket | None = None
        self._status = ""
        self._ready = False
        self._watchdog_s = _watchdog_s(environ)
        # Half the time allowed, as sd_watchdog_enabled(3) asks.
        self._period_s = min(_STATUS_S, self._watchdog_s / 2 if self._watchdog_s else _STATUS_S)
        self.deadline = float("inf")
        """When there is something to say although nothing happens; monotonic seconds."""
        address = _address(environ.get("NOTIFY_SOCKET", ""))
        if address:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sock.setblocking(False)
            self._to = address

    def ready(self, now: float) -> None:
        """The server serves."""
        self._ready = True
        if self._say("READY=1", f"STATUS={self._note_status(now)}"):
            self.deadline = now

    def reloading(self) -> None:
        """A reload has begun; `reloaded` ends it. Before the first `ready` it is no news."""
        if not self._ready:
            return
        # By the time the manager tells whether this answers the reload that it has asked for.
        now_us = time.monotonic_ns() // 1000
        self._say("RELOADING=1", f"MONOTONIC_USEC={now_us}", "STATUS=reloading")

    def reloaded(self, now: float) -> None:
        """A reload is over, however it went; what has not been ready is not so by that."""
        if self._ready:
            self.ready(now)

    def stopping(self) -> None:
        """The server is on its way out."""
        self._say("STOPPING=1", "STATUS=stopping")

    def resign(self, successor: int) -> None:
        """The successor is the main process from now on."""
        self._say(f"MAINPID={successor}")
        self._main = False

    def take_over(self, now: float) -> None:
        """We have become the main process, if we were not."""
        before, self._main = self._main, True
        if self._ready and not before:
            self.ready(now)

    def tick(self, now: float, *, calm: bool) -> None:
        """Say what is due.  `calm`: having no worker ready is as it should be."""
        if now < self.deadline:
            return
        self.deadline = now + self._period_s
        words = []
        before = self._status
        if self._note_status(now) != before:
            words.append(f"STATUS={self._status}")
        if self._watchdog_s:
            why = None if calm else health.ready(self._board, now)
            if why is None:
                words.append("WATCHDOG=1")
            else:
                log.warning("watchdog of the service manager is not served", reason=why)
        if words:
            self._say(*words)

    def close_in_child(self) -> None:
        """A child has nothing to tell."""
        if self._sock is not None:
            self._sock.close()

    def _note_status(self, now: float) -> str:
        up = [slot for slot in read_fleet(self._board, now).slots if slot.state == "ready"]
        busy, threads = sum(slot.threads_busy for slot in up), sum(slot.threads for slot in up)
        self._status = f"{busy} of {threads} threads busy"
        return self._status

    def _say(self, *lines: str) -> bool:
        if self._sock is None or not self._main:
            return False
        # Full, gone or not permitted: there is nobody to complain to, and nothing depends on it.
        with suppress(OSError):
            self._sock.sendto("\n".join(lines).encode(), self._to)
        return True


def _address(text: str) -> str:
    """A path or, with @, an abstract name; other kinds of sockets are systemd's for machines."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """Within what time the manager wants to hear of us; 0 for never."""
    text = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(text) / 1e6 if text.isascii() and text.isdigit() else 0.0
