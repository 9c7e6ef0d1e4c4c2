"""From the fields of one event to one line: JSON, or readable on a terminal.

Pure functions of their input, run in whichever process and thread logs. Whatever a value
holds, it stays inside its field and its line: JSON escapes it, the console quotes it and
indents tracebacks. Must not write.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

Renderer = Callable[[float, str, Mapping[str, Any]], bytes]

# What belongs at the front of a line, in this order, and may not come from a caller's fields.
_FRONT = ("time", "level", "event")

_COLOURS = {
    "debug": "\x1b[2m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
_BOLD = "\x1b[1m"
_PLAIN = "\x1b[0m"


class SecondCache:
    """A time formatted once a second: strftime costs more than the rest of a line.

    Shared by threads without a lock: the pair is replaced as one object.
    """

    __slots__ = ("_format", "_pair")

    def __init__(self, to_text: Callable[[int], str]) -> None:
        self._format = to_text
        self._pair = (-1, "")

    def text(self, second: int) -> str:
        """`second` (since the epoch) in words."""
        pair = self._pair
        if pair[0] != second:
            pair = (second, self._format(second))
            self._pair = pair
        return pair[1]


_iso = SecondCache(lambda second: time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
_clock = SecondCache(lambda second: time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second)))


def iso_time(now: float) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    second = int(now)
    return f"{_iso.text(second)}.{int((now - second) * 1000):03d}Z"


def render_json(now: float, level: str, fields: Mapping[str, Any]) -> bytes:
    """One JSON object; what JSON cannot hold goes in as its repr."""
    line = {"time": iso_time(now), "level": level, "event": fields.get("event", "")}
    line.update((key, value) for key, value in fields.items() if key not in _FRONT)
    try:
        words = json.dumps(line, default=repr, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        # A key that is no text, a NaN, a circle: a log call must never raise.
        words = json.dumps({key: str(value) for key, value in line.items()})
    return f"{words}\n".encode("ascii")


def console_renderer(*, colours: bool) -> Renderer:
    """A renderer of lines for people."""

    def render(now: float, level: str, fields: Mapping[str, Any]) -> bytes:
        second = int(now)
        stamp = f"{_clock.text(second)}.{int((now - second) * 1000):03d}"
        event = _visible(str(fields.get("event", "")))
        word = f"{level:<8}"
        if colours:
            word = f"{_COLOURS.get(level, '')}{word}{_PLAIN}"
            event = f"{_BOLD}{event}{_PLAIN}"
        parts = [f"{stamp} {word} {event}"]
        parts += (
            f"{key}={_word(value)}"
            for key, value in fields.items()
            if key not in _FRONT and key != "exception"
        )
        lines = [" ".join(parts)]
        if trace := fields.get("exception"):
            lines += (f"    {_visible(line)}" for line in str(trace).split("\n"))
        return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")

    return render


def plain_text(fields: Mapping[str, Any], left_out: Collection[str]) -> str:
    """An event and its fields on one line, for a logging formatter that has the rest."""
    parts = [_visible(str(fields.get("event", "")))]
    parts += (
        f"{key}={_word(value)}"
        for key, value in fields.items()
        if key not in _FRONT and key != "exception" and key not in left_out
    )
    return " ".join(parts)


def _word(value: object) -> str:
    text = value if isinstance(value, str) else str(value)
    if text and text.isprintable() and not any(mark in text for mark in ' "='):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _visible(text: str) -> str:
    """The text with what could move the cursor or start a line shown as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)
