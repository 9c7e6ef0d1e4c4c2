"""What a process notes of its start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gthreadsrv.started import UPGRADE, take_note, working_directory


def test_private_variables_are_taken_out() -> None:
    """They are known afterwards, and no child can see them."""
    private = {
        "NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "2",
        "LISTEN_PID": "3", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web",
    }  # fmt: skip
    environ = {"PATH": "/bin", UPGRADE: "told", **private}
    started = take_note(environ)
    assert environ == {"PATH": "/bin"}
    assert started.environ == {"PATH": "/bin", **private}
    assert started.told == "told"


def test_the_command_line_is_the_interpreters() -> None:
    """With its options and -m, which sys.argv has lost, and a program that is found again."""
    started = take_note({})
    assert started.argv[0] == sys.executable
    assert list(started.argv[1:]) == sys.orig_argv[1:]


def test_the_directory_by_the_name_people_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PWD where it is true; else the kernel's."""
    (tmp_path / "release").mkdir()
    (tmp_path / "current").symlink_to("release")
    monkeypatch.chdir(tmp_path / "current")
    real = os.getcwd()
    assert working_directory({"PWD": str(tmp_path / "current")}) == str(tmp_path / "current")
    for wrong in ("", "current", str(tmp_path), str(tmp_path / "gone")):
        assert working_directory({"PWD": wrong}) == real
