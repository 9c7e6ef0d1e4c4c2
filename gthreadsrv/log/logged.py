"""Lines handed to Python's logging, where a logging configuration or syslog was asked for.

gunicorn's names, so that its users' configurations fit: `gunicorn.error` gets the server's
lines, `gunicorn.access` one for each response, whose atoms are in `record.args`. Slower than the
server's own files, so nothing of this runs unless asked for; `configuration` makes the handlers.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from gthreadsrv.log.atoms import COMBINED, Atoms, Record, compile_format
from gthreadsrv.log.render import plain_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gthreadsrv.log.access import AccessLog, Request, Response
    from gthreadsrv.settings.model import Settings

ERROR: Final = "gunicorn.error"
ACCESS: Final = "gunicorn.access"
# Where a record of ours has the line's fields; formatters of JSON leave such names out.
FIELDS: Final = "_gthreadsrv_fields"

# Attributes of a record that are not a field's to take.
_TAKEN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def wanted(settings: Settings) -> bool:
    """Whether a logging configuration says where lines go."""
    return bool(settings.logconfig_dict or settings.logconfig_json or settings.logconfig)


class Lines:
    """The server's lines as records of Python's logging."""

    def __init__(self, handles: Iterable[Callable[[logging.LogRecord], object]]) -> None:
        """`handles`: who gets each record."""
        self._handles = tuple(handles)

    def emit(self, level: str, fields: Mapping[str, Any]) -> None:
        """Hand on one line."""
        number = getattr(logging, level.upper())
        # Without arguments nothing is formatted, so the text may hold what it likes.
        text = plain_text(fields, ("pid",))
        record = logging.LogRecord(ERROR, number, "", 0, text, (), None)
        record.exc_text = fields.get("exception")
        setattr(record, FIELDS, fields)
        record.__dict__.update({k: v for k, v in fields.items() if k not in _TAKEN})
        _hand_on(record, self._handles)


class LoggedAccess:
    """An access log that Python's logging writes, besides a file of our own or not."""

    def __init__(
        self,
        form: str,
        handles: Iterable[Callable[[logging.LogRecord], object]],
        file: AccessLog | None,
    ) -> None:
        """ValueError when `form` is a text that is no format."""
        self._format = COMBINED if form in ("auto", "combined") else form
        _, self.unknown = compile_format(self._format)
        self._handles = tuple(handles)
        self._file = file

    def log(
        self,
        client: str,
        head: Request,
        response: Response,
        duration_s: float,
        started_wall: float,
        request_id: str,
        trace_id: str,
        environ: Mapping[str, object],
    ) -> None:
        """Hand on one line; takes what `AccessLog.log` does."""
        if self._file is not None:
            self._file.log(
                client, head, response, duration_s, started_wall, request_id, trace_id, environ
            )
        atoms = Atoms(
            Record(
                client, head.method, head.target, head.minor, response.code, response.sent,
                duration_s, started_wall, head.headers, request_id, trace_id, response.headers,
                environ,
            )
        )  # fmt: skip
        record = logging.LogRecord(ACCESS, logging.INFO, "", 0, self._format, (atoms,), None)
        _hand_on(record, self._handles)

    def reopen(self) -> None:
        """Go on in a new file after log rotation; raises OSError, keeping the old one."""
        if self._file is not None:
            self._file.reopen()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _hand_on(
    record: logging.LogRecord, handles: Iterable[Callable[[logging.LogRecord], object]]
) -> None:
    """Give a record to all of them, whatever becomes of it there.

    Python's logging keeps what a handler raises to itself, but not what a filter does.
    """
    for handle in handles:
        try:
            handle(record)
        except Exception:  # noqa: BLE001 - a line that is lost must not cost a process
            logging.Handler().handleError(record)


def through(name: str) -> Callable[[logging.LogRecord], object]:
    """Records to a logger, if its level lets them through."""
    logger = logging.getLogger(name)

    def handle(record: logging.LogRecord) -> None:
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)

    return handle


def reopen_files() -> Iterable[tuple[str, OSError]]:
    """Have all file handlers of all loggers go on in new files; those that could not."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    handlers = {
        handler
        for logger in loggers
        if isinstance(logger, logging.Logger)
        for handler in logger.handlers
        if isinstance(handler, logging.FileHandler)
    }
    failed = []
    for handler in handlers:
        handler.acquire()
        try:
            before = handler.stream
            if before is not None:
                handler.stream = handler._open()  # noqa: SLF001  as WatchedFileHandler does
                before.close()
        except OSError as error:
            failed.append((handler.baseFilename, error))
        finally:
            handler.release()
    return failed
