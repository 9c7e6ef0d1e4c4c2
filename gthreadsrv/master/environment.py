"""The application's surroundings: environment variables, directory, import path.

Variables and directory are set in the master, which every child copies, and set anew at a
reload. The import path is changed only where the application is imported: a module of the
application's must not stand in for one that the master or the exporter imports later.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from gthreadsrv.settings import Settings


class Variables:
    """Variables set by `--env`, which a reload may take back."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._before: dict[str, str | None] = {}

    def apply(self, raw_env: Sequence[str]) -> None:
        """Set these, and put those of an earlier call back to what they were."""
        for name, value in self._before.items():
            if value is None:
                self._environ.pop(name, None)
            else:
                self._environ[name] = value
        pairs = [item.partition("=")[::2] for item in raw_env]
        self._before = {name: self._environ.get(name) for name, _ in pairs}
        self._environ.update(pairs)


def enter_directory(settings: Settings) -> None:
    """Go where the application lives."""
    if settings.chdir:
        os.chdir(settings.chdir)


def extend_import_path(settings: Settings, path: list[str] = sys.path) -> None:
    """Import from `--pythonpath` first, then from the application's directory."""
    wanted = [*settings.pythonpath, settings.chdir or os.getcwd()]
    path[:] = [*dict.fromkeys(wanted), *(entry for entry in path if entry not in wanted)]
