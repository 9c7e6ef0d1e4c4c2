"""Tracebacks of exceptions that are somebody else's, whatever those are made of.

Python's own formatting fails where an exception's attributes are not what it expects: a
SyntaxError made by hand, an argument that raises when it is shown.  Whoever reports a failure
must not fail over that. Must not write.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["trace_of", "words_of"]


def trace_of(error: BaseException, trace: TracebackType | None) -> str:
    """Python's text of ``error``, from ``trace`` on; its last line has no end."""
    try:
        text = "".join(traceback.format_exception(type(error), error, trace))
    except Exception as other:  # noqa: BLE001 - it comes out of the exception that is shown
        frames = "".join(traceback.format_tb(trace))
        text = (
            f"Traceback (most recent call last):\n{frames}{type(error).__name__}: "
            f"(cannot be shown: {type(other).__name__})"
        )
    return text.removesuffix("\n")


def words_of(error: BaseException) -> str:
    """What ``error`` says, on one line; empty where it says nothing, or cannot."""
    try:
        return " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - as above
        return ""
