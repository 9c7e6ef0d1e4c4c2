"""What --reload takes for a change, told file by file; and which reports the master counts."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from gthreadsrv.master.changes import Changes
from gthreadsrv.settings import Settings
from gthreadsrv.worker import code_watch
from gthreadsrv.worker.channel import CodeChanged, WorkerChannel
from gthreadsrv.worker.code_watch import CodeWatch


def touch(path: Path, text: str = "") -> None:
    """Write a file with a time that it had not before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


class Line:
    """A worker's line to its master, kept here."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def send(self, message: Any) -> bool:
        self.said.append(message)
        return True


def watch(folder: Path, **changes: Any) -> CodeWatch:
    """A watch on a folder."""
    settings = Settings(app="a:b", chdir=str(folder), reload=True, **changes)
    return CodeWatch(settings, cast("WorkerChannel", Line()))


def test_python_files_below_the_folder_count(tmp_path: Path) -> None:
    """Changed or new; environments, caches and hidden folders do not."""
    touch(tmp_path / "app.py")
    touch(tmp_path / "notes.txt")
    for skipped in ("node_modules", "__pycache__", ".git"):
        touch(tmp_path / skipped / "x.py")
    touch(tmp_path / "env" / "pyvenv.cfg")
    touch(tmp_path / "env" / "lib" / "x.py")
    watched = watch(tmp_path)
    assert watched.changed() is None
    for path in ("notes.txt", "node_modules/x.py", ".git/x.py", "env/lib/x.py"):
        touch(tmp_path / path)
    assert watched.changed() is None
    touch(tmp_path / "app.py")
    assert watched.changed() == str(tmp_path / "app.py")
    assert watched.changed() is None
    touch(tmp_path / "package" / "new.py")
    assert watched.changed() == str(tmp_path / "package" / "new.py")
    (tmp_path / "app.py").unlink()
    # Between two states of an editor's: what matters is what comes in its place.
    assert watched.changed() is None
    (tmp_path / "app.py").write_text("x")
    assert watched.changed() == str(tmp_path / "app.py")


def test_imported_modules_count_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that a request has imported is no change; one that changes then is."""
    elsewhere = tmp_path / "elsewhere"
    touch(elsewhere / "lazy_for_test.py")
    (tmp_path / "here").mkdir()
    watched = watch(tmp_path / "here")
    module = ModuleType("lazy_for_test")
    module.__file__ = str(elsewhere / "lazy_for_test.py")
    monkeypatch.setitem(sys.modules, "lazy_for_test", module)
    assert watched.changed() is None
    touch(elsewhere / "lazy_for_test.py")
    assert watched.changed() == str(elsewhere / "lazy_for_test.py")


def test_the_configuration_file_and_extra_files_count(tmp_path: Path) -> None:
    """By name and by pattern, below folders too."""
    touch(tmp_path / "conf" / "prod.py")
    touch(tmp_path / "data" / "deep" / "page.html")
    (tmp_path / "src").mkdir()
    watched = watch(
        tmp_path / "src",
        config=str(tmp_path / "conf" / "prod.py"),
        reload_extra_files=(str(tmp_path / "data" / "**" / "*.html"), str(tmp_path / "later.toml")),
    )
    for path in ("conf/prod.py", "data/deep/page.html", "data/deep/other.html", "later.toml"):
        touch(tmp_path / path)
        assert watched.changed() == str(tmp_path / path)


def test_a_huge_folder_is_not_looked_at_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody starts in a home directory."""
    monkeypatch.setattr(code_watch, "_TREE_MAX", 10)
    for number in range(30):
        touch(tmp_path / f"m{number}.py")
    assert len(list(code_watch._python_files(str(tmp_path)))) == 10


@pytest.mark.parametrize("engine", ["poll", "watchfiles"])
def test_either_engine_tells_the_master(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """By a message on the worker's line."""
    if engine == "watchfiles":
        pytest.importorskip("watchfiles")
    monkeypatch.setattr(code_watch, "_POLL_S", 0.01)
    touch(tmp_path / "app.py")
    line = Line()
    settings = Settings(app="a:b", chdir=str(tmp_path), reload=True, reload_engine=engine)
    CodeWatch(settings, cast("WorkerChannel", line)).start()
    deadline = time.monotonic() + 30
    while not line.said and time.monotonic() < deadline:
        # Again and again: the watch may have begun after the first.
        touch(tmp_path / "app.py")
        time.sleep(0.05)
    assert line.said[0] == CodeChanged(str(tmp_path / "app.py"))


def test_the_master_counts_a_change_once(tmp_path: Path) -> None:
    """Each worker reports it, sooner or later."""
    path = tmp_path / "app.py"
    touch(path)
    changes = Changes()
    assert changes.news([str(path)])
    assert not changes.news([str(path), str(path)])
    assert not changes.news([])
    touch(path)
    assert changes.news([str(path)])
    path.unlink()
    assert not changes.news([str(path)])
