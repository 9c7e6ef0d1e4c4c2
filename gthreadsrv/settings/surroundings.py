"""What an application finds around it: working directory, import path, environment.

Applied by the master before the application may be imported, and by `--check-config`;
applied again at a reload, when variables that are no longer set get back what they were.
The one module here that changes the process. Must run before any thread starts.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from gthreadsrv.errors import ConfigError

if TYPE_CHECKING:
    from gthreadsrv.settings.model import Settings

# What our variables replaced; owned by the process's main thread.
_replaced: dict[str, str | None] = {}


def enter(settings: Settings) -> None:
    """Change to `chdir`, put `pythonpath` and it first on `sys.path`, set `raw_env`.

    ConfigError where the directory cannot be entered.
    """
    try:
        os.chdir(settings.chdir)
    except OSError as error:
        raise ConfigError(
            f"chdir: cannot enter {settings.chdir}: {error.strerror}; name a directory that "
            "exists and may be entered"
        ) from None
    for path in (settings.chdir, *reversed(settings.pythonpath)):
        if path in sys.path:
            sys.path.remove(path)
        sys.path.insert(0, path)
    for name, value in _replaced.items():
        _set(name, value)
    _replaced.clear()
    for item in settings.raw_env:
        name, _, value = item.partition("=")
        _replaced.setdefault(name, os.environ.get(name))
        _set(name, value)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
