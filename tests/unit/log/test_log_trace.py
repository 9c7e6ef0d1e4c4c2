"""Tracebacks of exceptions that Python itself cannot show."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import pytest

from gthreadsrv.log.setup import _fields
from gthreadsrv.log.trace import trace_of, words_of


class Mute(Exception):
    """Says nothing, and fails at that."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def odd(**attributes: Any) -> SyntaxError:
    """As a template engine makes them, of what it has at hand."""
    error = SyntaxError("unexpected tag")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


ODD = [
    SyntaxError("m", ("page.html", "3", "4", 5)),
    odd(lineno=3, text=b"{% tag %}", filename=7),
]


def caught(error: BaseException) -> BaseException:
    """With a traceback."""
    try:
        raise error
    except BaseException as found:  # noqa: BLE001 - any
        return found


@pytest.mark.parametrize("error", ODD)
def test_what_python_cannot_show_is_named_with_its_frames(error: SyntaxError) -> None:
    """Where it comes from is what its reader needs."""
    found = caught(error)
    with pytest.raises((AttributeError, TypeError)):
        traceback.format_exception(found)
    text = trace_of(found, found.__traceback__)

    assert text.startswith("Traceback (most recent call last):\n")
    assert "in caught\n" in text
    assert text.splitlines()[-1].startswith("SyntaxError: (cannot be shown: ")


@pytest.mark.parametrize("error", ODD)
def test_a_line_about_it_is_written_all_the_same(error: SyntaxError) -> None:
    """By the log, which must never raise."""
    found = caught(error)
    exc_info = (type(found), found, found.__traceback__)
    record = logging.LogRecord("app", logging.ERROR, "", 0, "failed", (), exc_info)

    assert "SyntaxError: (cannot be shown" in _fields(record)["exception"]


def test_all_others_are_as_python_has_them() -> None:
    """To the last but one byte."""
    for error in (ValueError("a\nb"), Mute(), KeyError("x")):
        found = caught(error)
        assert trace_of(found, found.__traceback__) + "\n" == "".join(
            traceback.format_exception(type(found), found, found.__traceback__)
        )


def test_words_are_on_one_line_or_missing() -> None:
    assert words_of(ValueError("a\n  b")) == "a b"
    assert words_of(Mute()) == ""
