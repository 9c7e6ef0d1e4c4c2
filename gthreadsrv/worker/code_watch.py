"""--reload: a thread that looks whether the application's code is still what was imported.

It compares the files' times with those at the import and tells the master, which reloads as on
HUP. Runs in each worker, because only there it is known which modules the application has
imported; the master counts a change once. The package watchfiles, where it is there, only says
when to look. For development: one look costs milliseconds.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import sys
import threading
from time import sleep
from typing import TYPE_CHECKING, Final

from gthreadsrv import log as logs
from gthreadsrv.system import replaced_by
from gthreadsrv.worker.channel import CodeChanged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gthreadsrv.settings import Settings
    from gthreadsrv.worker.channel import WorkerChannel

__all__ = ["CodeWatch"]

_POLL_S: Final = 1.0
# With watchfiles, how often directories are listed anew, since new ones are not watched yet.
_REFRESH_MS: Final = 5000
# Files below the working directory; in a home directory there are too many to look at.
_TREE_MAX: Final = 5000
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})

log = logs.get_logger()


class CodeWatch:
    """Watches imported modules, Python files below `chdir`, the configuration and extra files."""

    def __init__(self, settings: Settings, channel: WorkerChannel) -> None:
        """What is there now is what was imported."""
        self._settings = settings
        self._channel = channel
        self._seen = {**self._named(), **_imported()}

    def start(self) -> None:
        """Watch until the process ends."""
        threading.Thread(target=self._run, name="gthreadsrv-reload", daemon=True).start()

    def changed(self) -> str | None:
        """One file that has changed since the last call."""
        seen = self._seen
        named = self._named()
        found = None
        # A new file matters where it may be what an import was missing; a new module does not,
        # since requests import modules as they go.
        for path, stamp in {**_imported(), **named}.items():
            before = seen.get(path)
            if before != stamp and (before is not None or path in named):
                found = path
            seen[path] = stamp
        return found

    def _run(self) -> None:
        for _ in self._looks():
            path = self.changed()
            if path is not None:
                self._channel.send(CodeChanged(path))

    def _looks(self) -> Iterator[None]:
        engine = self._settings.reload_engine
        # Among greenlets watchfiles, which waits in C, would hold up all of them.
        if engine != "poll" and not replaced_by():
            if importlib.util.find_spec("watchfiles") is not None:
                yield from self._notified()
            elif engine != "auto":
                log.warning(
                    "watchfiles is not installed, looking at files each second",
                    advice="pip install 'gthreadsrv[reload]'",
                )
        while True:
            sleep(_POLL_S)
            yield

    def _notified(self) -> Iterator[None]:
        """Look whenever something in the directories changes, or they are to be listed anew."""
        import watchfiles

        try:
            while True:
                folders = {os.path.dirname(path) for path in self._seen}
                found = watchfiles.watch(
                    *(folder for folder in folders if os.path.isdir(folder)),
                    watch_filter=None,
                    recursive=False,
                    rust_timeout=_REFRESH_MS,
                    yield_on_timeout=True,
                    raise_interrupt=False,
                )
                next(iter(found), None)
                yield
        except (OSError, RuntimeError) as error:
            log.warning("files cannot be watched, looking at them each second", reason=str(error))

    def _named(self) -> dict[str, int]:
        """What is watched whether it is imported or not."""
        settings = self._settings
        paths = [*_python_files(settings.chdir)]
        if settings.config is not None:
            paths.append(settings.config)
        for pattern in settings.reload_extra_files:
            paths += glob.glob(pattern, recursive=True)
        return _times(paths)


def _imported() -> dict[str, int]:
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return _times(os.path.abspath(file) for file in files if isinstance(file, str))


def _times(paths: Iterable[str]) -> dict[str, int]:
    found = {}
    for path in paths:
        try:
            found[path] = os.stat(path).st_mtime_ns
        except OSError:  # between two states of an editor's, or no file of its own
            continue
    return found


def _python_files(root: str) -> Iterator[str]:
    count = 0
    for folder, folders, files in os.walk(root):
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        folders[:] = [name for name in folders if name not in _SKIPPED and name[0] != "."]
        for name in files:
            count += 1
            if count > _TREE_MAX:
                return
            if name.endswith(".py"):
                yield os.path.join(folder, name)
