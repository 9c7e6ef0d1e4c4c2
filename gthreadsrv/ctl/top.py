"""`gthreadsrvctl top`: the server in a terminal, looked at again and again, until `q` or Ctrl-C."""

from __future__ import annotations

import importlib.util
import os
import select
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
    """The keyboard; nothing where standard input is no terminal."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def quit_within(self, seconds: float) -> bool:
        """Wait so long, or until `q` is pressed (True) or the terminal is gone (True)."""
        if self._fd is None:
            time.sleep(seconds)
            return False
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            if select.select([self._fd], [], [], left)[0]:
                pressed = os.read(self._fd, 64)
                if not pressed or b"q" in pressed.lower():
                    return True
        return False


@contextmanager
def _keys() -> Iterator[_Keys]:
    """Keys one by one and unseen, instead of lines; as it was afterwards."""
    if not sys.stdin.isatty():
        yield _Keys(None)
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield _Keys(fd)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
