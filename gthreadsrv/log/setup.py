"""Where the server's lines go: one structlog logger of our own, one file, one format.

Configured by the master before it forks (again at a reload) and inherited by every
process; `bind_process` then says who is speaking. Calls come from any thread. The
application's logging is its own: structlog's global configuration and the root logger
are never touched unless a logging configuration was given; but `logging.lastResort`, which
speaks for an application that has configured nothing, and the logger `gunicorn.error`.
Must not be used on the path of a request that logs nothing.
"""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import pwd
import time
from typing import TYPE_CHECKING, Any

import structlog
from structlog.contextvars import merge_contextvars
from structlog.processors import ExceptionRenderer

from gthreadsrv.errors import ConfigError
from gthreadsrv.log.access import AccessLog
from gthreadsrv.log.atoms import compile_format
from gthreadsrv.log.capture import capture, recapture
from gthreadsrv.log.logfile import LogFile
from gthreadsrv.log.logged import (
    ACCESS,
    ERROR,
    FIELDS,
    Lines,
    LoggedAccess,
    reopen_files,
    through,
    wanted,
)
from gthreadsrv.log.render import Renderer, console_renderer, render_json
from gthreadsrv.log.trace import trace_of

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from structlog.typing import ExcInfo, FilteringBoundLogger

    from gthreadsrv.settings.model import Settings

_STDOUT, _STDERR = 1, 2
_LEVELS = {name: getattr(logging, name.upper()) for name in (
    "debug", "info", "warning", "error", "critical")}  # fmt: skip


class _Output:
    """What one process logs with: owned by the process, replaced whole by `configure`."""

    def __init__(self, file: LogFile, level: str, render: Renderer) -> None:
        self.file = file
        self.level = _LEVELS[level]
        self.render = render
        self.access: AccessLog | LoggedAccess | None = None
        self.process: dict[str, object] = {}
        self.made_from: Settings | None = None
        self.lines: Lines | None = None
        """Python's logging, where lines go there too."""
        self.only_logged = False
        """Whether they go there alone."""

    def emit(self, level: str, fields: Mapping[str, Any]) -> None:
        """Log one line."""
        # What the call says counts more: the master's lines name its workers' pids.
        known = {**fields}
        for name, value in (("pid", os.getpid()), *self.process.items()):
            known.setdefault(name, value)
        if self.lines is not None:
            self.lines.emit(level, known)
        if not self.only_logged:
            self.write(level, known)

    def write(self, level: str, known: Mapping[str, Any]) -> None:
        """Write one line to the file; a log that cannot be written has nowhere to complain."""
        line = self.render(time.time(), level, known)
        with contextlib.suppress(OSError):
            self.file.write(line)


# Until `configure` ran (and in tests of other parts) lines go to standard error as JSON.
_output = _Output(LogFile("-", _STDERR), "info", render_json)


def configure(settings: Settings) -> None:
    """Open the logs and choose their format; raises ConfigError and then keeps the old ones."""
    global _output  # the one place of this process's output
    if _output.made_from is settings:
        return
    owner = _owner(settings)
    file = _open("errorlog", settings.errorlog, _STDERR, owner)
    access = None
    try:
        output = _Output(file, settings.loglevel, _renderer(settings.log_format, file))
        if settings.accesslog is not None:
            stream = _open("accesslog", settings.accesslog, _STDOUT, owner)
            access = output.access = _access(settings, stream)
        output.made_from = settings
        _connect(output, settings)
    except ConfigError:
        file.close()
        if access is not None:
            access.close()
        raise
    before, _output = _output, output
    output.process = before.process
    capture(file if settings.capture_output else None)
    before.file.close()
    if before.access is not None:
        before.access.close()
    logging.lastResort = _LastResort(logging.WARNING)
    if output.access is not None and output.access.unknown:
        atoms = " ".join(f"%({name})s" for name in output.access.unknown)
        output.emit("warning", {"event": "unknown atoms in access_log_format", "atoms": atoms})


def check(settings: Settings) -> None:
    """ConfigError for what `configure` would refuse, as far as nothing has to be opened."""
    if settings.accesslog is not None or settings.syslog or wanted(settings):
        try:
            compile_format(settings.access_log_format)
        except ValueError as error:
            raise ConfigError(f"access_log_format: {error}") from None
    if wanted(settings):
        from gthreadsrv.log.configuration import check as check_configuration

        check_configuration(settings)


def _connect(output: _Output, settings: Settings) -> None:
    """Join the server's lines and Python's logging, in the directions that are wanted."""
    was_logged = _output.only_logged
    for name in (ERROR, ACCESS):
        logger = logging.getLogger(name)
        for handler in [*logger.handlers]:
            if was_logged or isinstance(handler, _Own):
                logger.removeHandler(handler)
        logger.propagate = False
    # What configuration hooks say by `server.log`, and applications that log like gunicorn.
    logging.getLogger(ERROR).addHandler(_Own(output))
    logging.getLogger(ERROR).setLevel(output.level)
    logging.getLogger(ACCESS).setLevel(logging.INFO)
    lines, requests = [], []
    file = output.access if isinstance(output.access, AccessLog) else None
    if wanted(settings):
        from gthreadsrv.log.configuration import apply

        if file is not None:
            # For a configuration that does not mention the logger.
            logging.getLogger(ACCESS).addHandler(_Own(output, file.file))
            file = None
        apply(settings)
        output.only_logged = True
        output.level = logging.DEBUG  # the loggers' levels decide
        lines.append(through(ERROR))
        requests.append(through(ACCESS))
    if settings.syslog:
        from gthreadsrv.log.configuration import syslog

        handler = syslog(settings, "error")
        logging.getLogger(ERROR).addHandler(handler)
        # A configured logger passes them on by itself.
        if not output.only_logged:
            lines.append(handler.handle)
        if not settings.disable_redirect_access_to_syslog:
            handler = syslog(settings, "access")
            logging.getLogger(ACCESS).addHandler(handler)
            if not output.only_logged:
                requests.append(handler.handle)
    if lines:
        output.lines = Lines(lines)
    if requests:
        try:
            output.access = LoggedAccess(settings.access_log_format, requests, file)
        except ValueError as error:
            raise ConfigError(f"access_log_format: {error}") from None


def get_logger(**fields: object) -> FilteringBoundLogger:
    """A structlog logger of the server's own, with `fields` on each of its lines."""
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _Lines(),
        processors=_PROCESSORS,
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return logger.bind(**fields)


def bind_process(**fields: object) -> None:
    """Who this process is (role, slot, generation): on each of its lines from now on."""
    _output.process = fields


def access_log() -> AccessLog | LoggedAccess | None:
    """The access log, or None when no requests are to be logged."""
    return _output.access


def close_access_log() -> None:
    """Log no requests in this process: the exporter's, which are not the application's."""
    access, _output.access = _output.access, None
    if access is not None:
        access.close()


def reopen() -> None:
    """Go on in new files after log rotation (USR1); a failure is logged and the old file kept."""
    files: list[LogFile | AccessLog | LoggedAccess] = [_output.file]
    if _output.access is not None:
        files.append(_output.access)
    for file in files:
        try:
            file.reopen()
        except OSError as error:
            _not_reopened(error.filename, error)
    if _output.only_logged:
        for path, why in reopen_files():
            _not_reopened(path, why)
    recapture()


def _not_reopened(path: str, error: OSError) -> None:
    event = {"event": "log file not reopened", "path": path, "error": error.strerror}
    _output.emit("error", event)


class _Lines:
    """The end of our structlog chain: each method takes an event's fields and its level."""

    def _write(self, level: str, fields: Mapping[str, Any]) -> None:
        _output.emit(level, fields)

    debug = info = warning = error = critical = _write


class _LastResort(logging.Handler):
    """Standard library records that no handler of the application's wants, warnings and worse."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as a line of ours."""
        _output.emit(record.levelname.lower(), _fields(record))


class _Own(logging.Handler):
    """Records of gunicorn's loggers that go to the server's own file."""

    def __init__(self, output: _Output, file: LogFile | None = None) -> None:
        """Whole lines of ours; with a `file`, the bare message there."""
        super().__init__()
        self._output = output
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                text = _message(record)
                self._file.write(f"{text}\n".encode("ascii", "backslashreplace"))
            return
        fields: dict[str, Any] | None = getattr(record, FIELDS, None)
        if fields is not None:
            self._output.write(record.levelname.lower(), fields)
            return
        known = {**_fields(record), "pid": os.getpid()}
        for name, value in _output.process.items():
            known.setdefault(name, value)
        self._output.write(record.levelname.lower(), known)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    level = record.levelname.lower()
    fields: dict[str, Any] = {"event": _message(record), "logger": record.name}
    if record.exc_info and record.exc_info[0] is not None:
        fields["exc_info"] = record.exc_info
    fields = dict(_format_exc_info(None, level, fields))
    if record.exc_text and "exception" not in fields:
        fields["exception"] = record.exc_text
    return dict(merge_contextvars(None, level, fields))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # arguments that do not fit the format
        return f"{record.msg!r} {record.args!r}"


def _trace(exc_info: ExcInfo) -> str:
    _, error, trace = exc_info
    return trace_of(error, trace)


_format_exc_info = ExceptionRenderer(_trace)


def _keep_level(
    _logger: object, method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    if _LEVELS[method] < _output.level:
        raise structlog.DropEvent
    return fields


def _with_level(
    _logger: object, method: str, fields: MutableMapping[str, Any]
) -> tuple[tuple[str, MutableMapping[str, Any]], dict[str, Any]]:
    return (method, fields), {}


_PROCESSORS = (_keep_level, merge_contextvars, _format_exc_info, _with_level)


def _open(name: str, path: str, standard_fd: int, owner: tuple[int, int] | None) -> LogFile:
    try:
        return LogFile(path, standard_fd, owner)
    except OSError as error:
        raise ConfigError(
            f"{name}: cannot open {path}: {error.strerror}; name a file in a directory that may "
            "be written to, or -"
        ) from None


def _renderer(log_format: str, file: LogFile) -> Renderer:
    if log_format == "console" or (log_format == "auto" and file.is_terminal()):
        return console_renderer(colours=file.is_terminal() and not os.environ.get("NO_COLOR"))
    return render_json


def _access(settings: Settings, file: LogFile) -> AccessLog:
    chosen = settings.access_log_format
    if chosen == "auto":
        console = settings.log_format == "console"
        terminal = settings.log_format == "auto" and file.is_terminal()
        chosen = "combined" if console or terminal else "json"
    try:
        return AccessLog(file, chosen)
    except ValueError as error:
        file.close()
        raise ConfigError(f"access_log_format: {error}") from None


def _owner(settings: Settings) -> tuple[int, int] | None:
    """Whom the files should belong to: the workers' user and group, where they are set."""
    if settings.user is None and settings.group is None:
        return None
    user, group = settings.user, settings.group
    uid = gid = -1
    if user is not None:
        uid = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    if group is not None:
        gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    return uid, gid
