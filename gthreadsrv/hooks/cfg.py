"""`server.cfg` and `worker.cfg`: the settings under gunicorn's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gthreadsrv.net.address import FdAddress, TcpAddress, parse_bind
from gthreadsrv.settings.gunicorn import FOREIGN_BY_NAME
from gthreadsrv.settings.hooks import HOOKS_BY_NAME
from gthreadsrv.settings.model import WorkerRange
from gthreadsrv.settings.table import BY_FILE_NAME, BY_NAME

if TYPE_CHECKING:
    from gthreadsrv.settings import Settings


class Cfg:
    """Settings as attributes; those of gunicorn's that have no effect are as they were given."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __getattr__(self, name: str) -> Any:
        settings = self.__dict__.get("_settings")
        if settings is None:  # a copy that is being made
            raise AttributeError(name)
        setting = BY_FILE_NAME.get(name) or BY_NAME.get(name)
        if setting is not None:
            return _as_gunicorn_has_it(getattr(settings, setting.name))
        if name in HOOKS_BY_NAME:
            return settings.hooks.get(name)
        if name in FOREIGN_BY_NAME:
            return settings.foreign.get(name, FOREIGN_BY_NAME[name].default)
        raise AttributeError(f"there is no setting {name!r}")

    @property
    def address(self) -> list[tuple[str, int] | str | int]:
        """Where the server listens: host and port, a path, or a descriptor."""
        return [_address(text) for text in self._settings.bind]

    @property
    def env(self) -> dict[str, str]:
        """What `raw_env` sets."""
        pairs = (item.partition("=") for item in self._settings.raw_env)
        return {name: value for name, _, value in pairs}

    @property
    def worker_class_str(self) -> str:
        """The worker class's name."""
        return self._settings.worker_class

    @property
    def is_ssl(self) -> bool:
        """Whether the application's listeners speak TLS."""
        return self._settings.is_ssl


def _as_gunicorn_has_it(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, WorkerRange):  # files divide pools by it
        return value.most
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _address(text: str) -> tuple[str, int] | str | int:
    match parse_bind(text):
        case TcpAddress(host, port):
            return (host, port)
        case FdAddress(fd):
            return fd
        case address:
            return address.path
