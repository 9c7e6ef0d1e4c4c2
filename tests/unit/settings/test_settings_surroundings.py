"""Directory, import path and environment as the application finds them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gthreadsrv.settings import Settings
from gthreadsrv.settings.surroundings import enter


@pytest.fixture(autouse=True)
def _undo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("GT_TEST_OLD", "old")


def test_the_application_is_found_before_anything_else(tmp_path: Path) -> None:
    """The pythonpath first, then the directory that was changed to; once each, however often."""
    (tmp_path / "src").mkdir()
    settings = Settings(chdir=str(tmp_path / "src"), pythonpath=("/a", "/b"))
    for _ in range(2):
        enter(settings)
        assert sys.path[:3] == ["/a", "/b", str(tmp_path / "src")]
        assert [sys.path.count(path) for path in sys.path[:3]] == [1, 1, 1]
    assert Path.cwd() == tmp_path / "src"


def test_a_reload_takes_back_variables_that_are_no_longer_set(tmp_path: Path) -> None:
    """What a variable was before comes back, or the variable goes."""
    here = str(tmp_path)
    enter(Settings(chdir=here, raw_env=("GT_TEST_OLD=new", "GT_TEST_NEW=a=b", "GT_TEST_NEW=c")))
    assert (os.environ["GT_TEST_OLD"], os.environ["GT_TEST_NEW"]) == ("new", "c")
    enter(Settings(chdir=here, raw_env=("GT_TEST_OLD=newer",)))
    assert os.environ["GT_TEST_OLD"] == "newer"
    assert "GT_TEST_NEW" not in os.environ
    enter(Settings(chdir=here))
    assert os.environ["GT_TEST_OLD"] == "old"
