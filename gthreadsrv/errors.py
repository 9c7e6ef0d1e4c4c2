"""The errors that end a command with one line for a person.

Raised in any process before it serves; the command line turns each into a line on
stderr and its exit code. Errors of single requests live in `http.errors`; they
never end a process and must not be put here.
"""

from __future__ import annotations


class GthreadsrvError(Exception):
    """Base of the errors a person is told about; `str()` is one line, `exit_code` is ours.

    `traceback` holds the text of an exception of the operator's own code, where there was one.
    """

    exit_code = 1
    traceback = ""


class ConfigError(GthreadsrvError):
    """A setting, or the file it came from, is wrong."""

    exit_code = 2


class AppLoadError(GthreadsrvError):
    """The application cannot be imported or called.

    `traceback` holds the text of the application's own exception; it is empty where
    the line alone says everything (a module that is not there, a wrong name).
    """

    exit_code = 3

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message, traceback)
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        return self.message


class StopRequestedError(BaseException):
    """A stop was asked for while the master runs the application's own code.

    Not an Exception, so that an import does not catch it by chance, and nothing that a person
    is told about: the stop itself is.
    """
