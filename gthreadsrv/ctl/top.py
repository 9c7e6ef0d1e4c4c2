"""`gthreadsrvctl top`: the server in a terminal, looked at again and again, until `q` or Ctrl-C."""

from __future__ import annotations

import importlib.util
import os
import select
import signal
import sys
import termios
import time
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gthreadsrv.ctl.asking import NoAnswerError
from gthreadsrv.ctl.frame import Before, Frame, frame
from gthreadsrv.ctl.pages import fetch
from gthreadsrv.errors import GthreadsrvError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gthreadsrv.net.address import TcpAddress, UnixAddress
    from gthreadsrv_metrics.advice import Page

__all__ = ["NoTerminalLibraryError", "top"]


class NoTerminalLibraryError(GthreadsrvError):
    """What draws is an extra of the distribution, and is not here."""

    exit_code = 1


def top(where: TcpAddress | UnixAddress, timeout_s: float, seconds: float, *, once: bool) -> int:
    """Draw until told to end, or one frame; 0.

    `seconds` is between looks. Raises NoAnswerError when nobody answers at first, and
    NoTerminalLibraryError.
    """
    if importlib.util.find_spec("rich") is None:
        raise NoTerminalLibraryError(
            "top: the package rich is not installed; pip install 'gthreadsrv[top]'"
        )
    from rich.console import Console
    from rich.live import Live

    from gthreadsrv.ctl.render import draw

    watch = Watch(where, timeout_s)
    console = Console()
    try:
        if once:
            time.sleep(seconds)
            console.print(draw(watch.look(), str(where), watch.trouble))
            return 0
        with _keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(draw(watch.look(), str(where), watch.trouble), refresh=True)
                if keys.quit_within(seconds):
                    return 0
    except KeyboardInterrupt:
        return 0


class Watch:
    """The page before, and what became of the last look."""

    def __init__(self, where: TcpAddress | UnixAddress, timeout_s: float) -> None:
        """Look for the first time. Raises NoAnswerError."""
        self._where = where
        self._timeout_s = timeout_s
        self._page, self._at = fetch(where, timeout_s)
        self._last = frame(self._page, time.time())
        self.trouble = ""

    def look(self) -> Frame:
        """What is now; what was, with `trouble` set, while nobody answers."""
        try:
            page, at = fetch(self._where, self._timeout_s)
        except NoAnswerError as error:
            self.trouble = str(error)
            return self._last
        before: Page = self._page
        self._last = frame(page, time.time(), Before(before, at - self._at))
        self._page, self._at, self.trouble = page, at, ""
        return self._last


class _Keys:
    """The keyboard, where standard input is a terminal, and SIGINT, which Ctrl-C is there."""

    def __init__(self, interrupted: int, fd: int | None) -> None:
        self._interrupted = interrupted
        self._fds = [interrupted] if fd is None else [interrupted, fd]

    def quit_within(self, seconds: float) -> bool:
        """Wait so long, or until `q` or Ctrl-C is pressed (True) or the terminal is gone (True)."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            for fd in select.select(self._fds, [], [], left)[0]:
                pressed = os.read(fd, 64)
                if fd == self._interrupted or not pressed or b"q" in pressed.lower():
                    return True
        return False


@contextmanager
def _keys() -> Iterator[_Keys]:
    """Keys one by one and unseen, instead of lines; as it was afterwards.

    An interrupt is noticed between two pictures: KeyboardInterrupt may be raised where the
    interpreter can only report it (a finalizer), and is lost there.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    handler = signal.signal(signal.SIGINT, lambda *_: None)
    before_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    fd = sys.stdin.fileno() if sys.stdin.isatty() else None
    before = None if fd is None else termios.tcgetattr(fd)
    try:
        if fd is not None:
            tty.setcbreak(fd)
        yield _Keys(reader, fd)
    finally:
        if fd is not None and before is not None:
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
        signal.set_wakeup_fd(before_fd)
        signal.signal(signal.SIGINT, handler)
        os.close(reader)
        os.close(writer)
