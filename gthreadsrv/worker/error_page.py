"""--debug-errors: what a developer sees in the place of "Internal Server Error"."""

from __future__ import annotations

import traceback

__all__ = ["error_page"]


def error_page(error: BaseException) -> bytes:
    """The exception's traceback as plain text, from the application's first line on."""
    own = error.__traceback__.tb_next if error.__traceback__ is not None else None
    lines = traceback.format_exception(type(error), error, own or error.__traceback__)
    text = "".join(lines)
    return (
        f"Internal Server Error\n\n{text}\nThis is shown because of --debug-errors, which is for "
        "development only.\n"
    ).encode("utf-8", "backslashreplace")
