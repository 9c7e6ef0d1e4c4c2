"""Signals become events: handlers only note what came, the master's loop acts on it.

A wake-up descriptor makes the loop's poll return (signal.set_wakeup_fd); the note itself is a
deque, so nothing is lost should the pipe be full. Runs in the master; `reset_in_child` is the
first thing a forked child does. Not here: what a signal means.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from gthreadsrv.errors import StopRequestedError
from gthreadsrv.system import keep as keep_system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

HANDLED: Final = (
    signal.SIGHUP,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCHLD,
)
STOPPING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
# Orders that make sense only to a master that runs.
LATER: Final = frozenset(HANDLED) - STOPPING - {signal.SIGCHLD}

# Meant for the master, yet sent to whole process groups: a terminal that closes sends HUP, log
# rotation USR1, an upgrade USR2. The default would kill a worker that has not set its own handlers
# yet. A Python handler, unlike SIG_IGN, is not passed on to programs that the application starts.
_HARMLESS_IN_CHILD: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

_DRAIN_SIZE: Final = 4096


class SignalInbox:
    """Owns the process's handlers from construction on."""

    def __init__(self) -> None:
        self._arrived: deque[signal.Signals] = deque()
        self._interruptible = False
        self._read_fd, self._write_fd = os.pipe()
        for fd in (self._read_fd, self._write_fd):
            os.set_blocking(fd, False)
        self.rearm()

    def rearm(self) -> None:
        """Take the signals back from whatever code of the user's has run in the master.

        An import or a configuration file may set handlers, the wake-up descriptor or the mask;
        the master would then sleep through TERM, and be ended by nothing but KILL. Or the functions
        themselves, in favour of an event loop's, which does not run here.
        """
        keep_system()
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in HANDLED:
            signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def fileno(self) -> int:
        """Readable once something came."""
        return self._read_fd

    def take(self) -> list[signal.Signals]:
        """Everything that came since the last call. The kernel merges repeats of one signal."""
        while True:
            try:
                if len(os.read(self._read_fd, _DRAIN_SIZE)) < _DRAIN_SIZE:
                    break
            except BlockingIOError:
                break
        taken = []
        while self._arrived:
            taken.append(self._arrived.popleft())
        return taken

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within it TERM, INT and QUIT raise StopRequestedError.

        For a preloading import, which may take long and holds the loop up: as PID 1 a process
        that only takes notes could be ended by nothing but KILL.
        """
        self._interruptible = True
        try:
            if not STOPPING.isdisjoint(self._arrived):
                raise StopRequestedError
            yield
        finally:
            self._interruptible = False
            self.rearm()

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Within it no signal is delivered.

        Around fork: the child starts with our handlers and our wake-up pipe, and would report a
        signal of its own as if the master had got it.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def reset_in_child(self) -> None:
        """Give the child the system's own meaning of signals, then let them through again."""
        signal.set_wakeup_fd(-1)
        for number in HANDLED:
            harmless = number in _HARMLESS_IN_CHILD
            signal.signal(number, _nothing if harmless else signal.SIG_DFL)
        self._close_pipe()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def close(self) -> None:
        """Take no more notes; what comes now comes too late.

        The process is about to leave with an exit code of its own: the default handlers would
        make a second TERM look like a server that was killed.
        """
        signal.set_wakeup_fd(-1)
        for number in HANDLED:
            signal.signal(number, _nothing)
        self._close_pipe()

    def _close_pipe(self) -> None:
        os.close(self._read_fd)
        os.close(self._write_fd)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        signum = signal.Signals(number)
        self._arrived.append(signum)
        if self._interruptible and signum in STOPPING:
            self._interruptible = False
            raise StopRequestedError


def in_foreground() -> bool:
    """Whether a terminal's WINCH, which tells that its size has changed, goes to this process."""
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # no terminal belongs to this session
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(fd)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Let the signal pass."""
