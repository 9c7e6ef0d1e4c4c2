"""--debug-errors: what a developer sees in the place of "Internal Server Error"."""

from __future__ import annotations

from gthreadsrv.log.trace import trace_of

__all__ = ["error_page"]


def error_page(error: BaseException) -> bytes:
    """The exception's traceback as plain text, from the application's first line on."""
    own = error.__traceback__.tb_next if error.__traceback__ is not None else None
    text = trace_of(error, own or error.__traceback__)
    return (
        f"Internal Server Error\n\n{text}\n\nThis is shown because of --debug-errors, which is for "
        "development only.\n"
    ).encode("utf-8", "backslashreplace")
