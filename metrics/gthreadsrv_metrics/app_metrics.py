"""Where the application's own prometheus_client values go, arranged without importing it.

Applications that use prometheus_client work unchanged under many processes: the master
makes a directory (``prepare_directory``) before anything of the application is imported,
and each worker (``install_app_metrics``) says which slot's files it writes. Files are named
by slot, not by pid: a worker's successor goes on where it stopped, so totals stay exact and
the number of files is bounded whatever is restarted. A reaped slot's live gauges are cleared
by the master (``clear_live``).

prometheus_client is never imported from here: most of its cost would fall on applications
that do not use it. Reading the files is the exporter's business (``app_files``).
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType

__all__ = [
    "AppDirectory",
    "clear_live",
    "install_app_metrics",
    "measure",
    "prepare_directory",
]

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_OLD_VARIABLE: Final = "prometheus_multiproc_dir"  # what prometheus_client before 0.10 read
_PREFIX: Final = "gthreadsrv-app-metrics-"
_VALUES: Final = "prometheus_client.values"


class AppDirectory(NamedTuple):
    """The directory in use; a ``private`` one is the server's and goes with it."""

    path: str
    private: bool
    lock_fd: int = -1

    def give_to(self, uid: int, gid: int) -> None:
        """Master, when the workers' user changes: the new ones go on in the same files."""
        if self.private:
            os.chown(self.path, uid, gid)
            for entry in os.scandir(self.path):
                with contextlib.suppress(FileNotFoundError):
                    os.chown(entry.path, uid, gid)

    def remove(self) -> None:
        """Master, at exit: remove a private directory."""
        if self.private:
            _remove(self.path)
            os.close(self.lock_fd)


def prepare_directory(
    environ: Mapping[str, str],
    *,
    owner: tuple[int, int] | None = None,
    parents: Sequence[str] | None = None,
) -> AppDirectory | None:
    """Master, before anything of the application is imported: choose the directory.

    A directory the user set is made if need be and otherwise left as it is. Without one it
    is a new private one, on tmpfs where there is one (every update is a store into a mapped
    file, which on a disk would be written back for ever). ``owner`` is the uid and gid the
    workers will have. None: no place can be written to, so the application's metrics stay
    within each process.
    """
    chosen = environ.get(VARIABLE) or environ.get(_OLD_VARIABLE)
    # A server that re-executes itself finds its predecessor's own directory there.
    if chosen and not os.path.basename(chosen).startswith(_PREFIX):
        os.makedirs(chosen, exist_ok=True)
        return AppDirectory(chosen, private=False)
    for parent in parents or _places():
        with contextlib.suppress(OSError):
            _sweep(parent)
            return _make_private(parent, owner)
    return None


def _places() -> Iterator[str]:
    yield "/dev/shm"  # noqa: S108 - made 0700 there
    # Asked for only after that has failed: it raises where no root is writable, and a container
    # whose root is read-only still has its /dev/shm.
    with contextlib.suppress(OSError):
        import tempfile

        yield tempfile.gettempdir()


def _make_private(parent: str, owner: tuple[int, int] | None) -> AppDirectory:
    while True:
        # What tempfile.mkdtemp does: that module brings shutil, bz2 and lzma into every process.
        path = os.path.join(parent, _PREFIX + os.urandom(8).hex())
        os.mkdir(path, 0o700)
        # Held, through the forks too, until the last process of the server is gone: that is
        # how a successor tells an abandoned directory, also from another pid namespace.
        lock_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock_fd, fcntl.LOCK_SH)
        if os.path.isdir(path):
            break
        os.close(lock_fd)  # another server's sweep came before our lock
    if owner is not None:
        os.fchown(lock_fd, *owner)
    return AppDirectory(path, private=True, lock_fd=lock_fd)


def _remove(path: str) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def _sweep(parent: str) -> None:
    """Remove what servers that were killed left behind."""
    for path in glob.glob(os.path.join(glob.escape(parent), _PREFIX + "*")):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # another user's, or gone meanwhile
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path)
        except OSError:
            pass  # in use
        finally:
            os.close(fd)


def _name(slot: int | None, turn: int) -> str:
    """What a slot's files are called; None is the master.

    During an upgrade two masters' workers may write to one directory that the user has set, each
    from what it has read there once: masters take turns with two sets of names, so the number of
    files is bounded and each set's totals go on with the upgrade after next.
    """
    if slot is None:
        return "master"
    return f"{slot}b" if turn % 2 else str(slot)


def clear_live(slot: int, directory: str, turn: int = 0) -> None:
    """Master, when a slot's process is reaped: its live gauges are no longer true.

    Those of children the application forked go too; they write under the slot's name.
    """
    base = os.path.join(glob.escape(directory), "gauge_live*_")
    name = _name(slot, turn)
    for pattern in (f"{base}{name}.db", f"{base}{name}-*.db"):
        for path in glob.glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def measure(directory: str) -> tuple[int, int]:
    """Return how many metric files there are and the bytes they really take."""
    files = size = 0
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith(".db"):
                with contextlib.suppress(FileNotFoundError):
                    files, size = files + 1, size + entry.stat().st_blocks * 512
    return files, size


class _Identity:
    """Which files this process writes; asked again at every update, so forks show."""

    def __init__(self) -> None:
        self._name = "master"
        self._pid = os.getpid()

    def __call__(self) -> str:
        """Return the slot, or slot-pid in a child that the application forked."""
        pid = os.getpid()
        # No "_": prometheus_client takes file names apart at it.
        return self._name if pid == self._pid else f"{self._name}-{pid}"

    def become(self, name: str) -> None:
        self._name = name
        self._pid = os.getpid()


_identity = _Identity()


def install_app_metrics(slot: int | None, directory: str, turn: int = 0) -> None:
    """File this process's values under its slot (None: the master, which preloads).

    To be called in each process before the application is imported there; again in a
    worker whose master preloaded it. Costs nothing unless the application imports
    prometheus_client.
    """
    os.environ[VARIABLE] = directory
    _identity.become(_name(slot, turn))
    values = sys.modules.get(_VALUES)
    if values is None:
        if not any(isinstance(finder, _ValuesFinder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _ValuesFinder())
    else:
        _file_by_slot(values)


def _file_by_slot(values: ModuleType) -> None:
    """Make prometheus_client's values use our identity, unless they already do.

    Metrics made by a preloaded application keep their class; it sees the new identity at
    its next update and moves to the slot's files by itself, as after any fork.
    """
    if getattr(values, "_gthreadsrv_identity", None) is not _identity:
        values.ValueClass = values.MultiProcessValue(_identity)  # type: ignore[attr-defined]
        values._gthreadsrv_identity = _identity  # type: ignore[attr-defined]  # noqa: SLF001


class _ValuesFinder:
    """Sees prometheus_client.values being imported, and sets it up right after."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find the real module, with a loader that has one more thing to do."""
        if fullname != _VALUES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute: Callable[[ModuleType], None] = spec.loader.exec_module

        def execute_then_file(module: ModuleType) -> None:
            execute(module)
            _file_by_slot(module)

        spec.loader.exec_module = execute_then_file  # type: ignore[method-assign]
        return spec
