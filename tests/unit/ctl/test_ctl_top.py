"""The keyboard of `top`; the rest of it runs in a real terminal (tests/system/test_top.py)."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress

import pytest

from gthreadsrv.ctl.top import _keys


def test_an_interrupt_counts_wherever_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in code that lets nothing out, as a finalizer: it is noticed after the picture."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    with open(os.devnull) as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        before = signal.getsignal(signal.SIGINT)
        with _keys() as keys:
            assert not keys.quit_within(0.0)
            with suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
            assert keys.quit_within(30.0)
        assert signal.getsignal(signal.SIGINT) is before


def test_keys_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """`q` ends it, others do not, and a terminal that is gone does."""
    reader, writer = os.pipe()

    class Terminal:
        def isatty(self) -> bool:
            return True

        def fileno(self) -> int:
            return reader

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("gthreadsrv.ctl.top.termios.tcgetattr", lambda _: [])
    monkeypatch.setattr("gthreadsrv.ctl.top.termios.tcsetattr", lambda *_: None)
    monkeypatch.setattr("gthreadsrv.ctl.top.tty.setcbreak", lambda _: None)
    try:
        with _keys() as keys:
            os.write(writer, b"x")
            assert not keys.quit_within(0.01)
            os.write(writer, b"Q")
            assert keys.quit_within(30.0)
            os.close(writer)
            assert keys.quit_within(30.0)
    finally:
        os.close(reader)
