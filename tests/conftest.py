"""What all tests share: the markers that say what a test needs from the machine."""

from __future__ import annotations

import os
import shutil

import pytest

# Debian keeps servers out of an ordinary user's PATH.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker that belongs to the Makefile's second, serial run."""
    config.addinivalue_line(
        "markers", "alone: measures time, so it runs when no other test does (pytest -m alone)"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test by name where a program is missing; in continuous integration, fail it."""
    for marker in item.iter_markers("program"):
        for name in marker.args:
            if shutil.which(name, path=SEARCH_PATH):
                continue
            if os.environ.get("CI") == "true":
                pytest.fail(f"{name} is not installed: run `make test-deps`", pytrace=False)
            pytest.skip(f"{name} is not installed (make test-deps)")
