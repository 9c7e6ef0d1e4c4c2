"""Python's logging configured as asked: a dictionary, a JSON or INI file, a way to syslog.

Runs in the master before it forks, and again at a reload; handlers are inherited. Imported only
then, because what it takes of the standard library costs a start more than all our logs.
"""

from __future__ import annotations

import configparser
import inspect
import json
import logging
import logging.config
import os
import socket
from contextlib import contextmanager
from logging.handlers import MemoryHandler, QueueHandler, SysLogHandler
from typing import TYPE_CHECKING, Any, Final, cast

from gthreadsrv.errors import ConfigError
from gthreadsrv.log.logged import ACCESS, ERROR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gthreadsrv.settings.model import Settings

# Of a handler's dictionary: what dictConfig looks at itself.
_NO_ARGUMENTS: Final = frozenset({"formatter", "level", "filters"})

# What gunicorn assumes where a configuration says nothing.
_ASSUMED: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        ERROR: {"level": "INFO", "handlers": ["error_console"], "propagate": True},
        ACCESS: {"level": "INFO", "handlers": ["console"], "propagate": True},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stdout",
        },
        "error_console": {
            "class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stderr",
        },
    },
    "formatters": {
        "generic": {
            "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
            "class": "logging.Formatter",
        }
    },
}  # fmt: skip


def apply(settings: Settings) -> None:
    """Configure Python's logging; ConfigError where the configuration is wrong."""
    with _named(settings):
        if settings.logconfig_dict:
            logging.config.dictConfig({**_ASSUMED, **settings.logconfig_dict})
        elif settings.logconfig_json:
            logging.config.dictConfig({**_ASSUMED, **_from_json(settings.logconfig_json)})
        elif settings.logconfig:
            # Without this, a file that is not there is "invalid" to some Pythons.
            os.stat(settings.logconfig)
            here = os.path.dirname(settings.logconfig)
            logging.config.fileConfig(
                settings.logconfig,
                defaults={"__file__": settings.logconfig, "here": here},
                disable_existing_loggers=False,
            )


def check(settings: Settings) -> None:
    """ConfigError where `apply` would raise one.

    But for what handlers do when they are made: they open files, which would then belong to
    whoever checks, and connections.  Changes this process's loggers.
    """
    with _named(settings):
        if settings.logconfig_dict:
            _Checker({**_ASSUMED, **settings.logconfig_dict}).configure()
        elif settings.logconfig_json:
            _Checker({**_ASSUMED, **_from_json(settings.logconfig_json)}).configure()
        elif settings.logconfig:
            with open(settings.logconfig, encoding="utf-8") as file:
                parser = configparser.ConfigParser()
                parser.read_file(file)
            _check_sections(parser)


class _Checker(logging.config.DictConfigurator):
    """All of dictConfig but the handlers: their classes are found, and not called."""

    def configure_handler(self, config: dict[str, Any]) -> logging.Handler:
        """A handler that does nothing, with the formatter, level and filters of the real one."""
        given = {key: config[key] for key in config}
        kind = given["()"] if "()" in given else given.pop("class")
        made = kind if callable(kind) else self.resolve(kind)
        # What a queue's and a memory's handler are given, dictConfig turns into something else.
        if not (isinstance(made, type) and issubclass(made, (QueueHandler, MemoryHandler))):
            words = [name for name in given if name not in _NO_ARGUMENTS and name.isidentifier()]
            inspect.signature(made).bind(**dict.fromkeys(words))
        given["()"] = lambda **_words: logging.NullHandler()
        return cast("logging.Handler", super().configure_handler(given))


def _check_sections(parser: configparser.ConfigParser) -> None:
    """Find what fileConfig would look for in a file, and the handlers' classes."""
    for kind in ("formatters", "handlers", "loggers"):
        for name in filter(None, map(str.strip, parser[kind]["keys"].split(","))):
            section = parser[f"{kind[:-1]}_{name}"]
            if kind == "handlers":
                _find_class(section["class"])


def _find_class(name: str) -> None:
    found: object = logging
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        logging.config.BaseConfigurator({}).resolve(name)


def _from_json(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        said = json.load(file)
    if not isinstance(said, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004  for the one line
    return said


@contextmanager
def _named(settings: Settings) -> Iterator[None]:
    """What is raised within it becomes one line about the setting that counts."""
    name = (
        "logconfig_dict"
        if settings.logconfig_dict
        else "logconfig_json"
        if settings.logconfig_json
        else "logconfig"
    )
    try:
        yield
    # It names classes of the operator's choice, which may raise anything.
    except Exception as error:  # noqa: BLE001  becomes the one line for the user
        raise ConfigError(f"{name}: {_reasons(error)}; correct the logging configuration") from None


def _reasons(error: BaseException) -> str:
    """DictConfig says which part is wrong, and what is wrong with it in the cause."""
    words = " ".join(str(error).split()) or type(error).__name__
    cause = error.__cause__
    return f"{words}: {_reasons(cause)}" if cause is not None else words


class _Syslog(SysLogHandler):
    """A daemon that is away must neither fail a request nor fill standard error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Do nothing: a log that cannot be written has nowhere to complain."""

    def close(self) -> None:
        """Close the socket, if there ever was one: Python 3.10 closes what was not opened."""
        if getattr(self, "socket", None) is not None:
            super().close()
        else:
            logging.Handler.close(self)


def syslog(settings: Settings, name: str) -> SysLogHandler:
    """A way to syslog for the lines of one kind; ConfigError where it cannot be reached."""
    address: tuple[str, int] | str
    kind, _, rest = settings.syslog_addr.partition("://")
    kind_of_socket = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    if kind == "unix":
        address, _, how = rest.partition("#")
        kind_of_socket = socket.SOCK_STREAM if how == "stream" else socket.SOCK_DGRAM
    else:
        host, _, port = rest.rpartition(":") if ":" in rest else (rest, "", "514")
        address = (host.strip("[]") or "localhost", int(port) if port.isdecimal() else 514)
    try:
        handler = _Syslog(
            address, SysLogHandler.facility_names[settings.syslog_facility], kind_of_socket
        )
    except OSError as error:
        raise ConfigError(
            f"syslog_addr: cannot reach {settings.syslog_addr}: {error.strerror or error}; name "
            "another address, or leave syslog out"
        ) from None
    program = settings.syslog_prefix or (settings.proc_name or settings.app).replace(":", ".")
    prefix = f"gunicorn.{program}.{name}".replace("%", "%%")
    handler.setFormatter(logging.Formatter(f"{prefix}: [%(process)d] %(message)s"))
    return handler
