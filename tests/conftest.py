"""What all tests share: the markers that say what a test needs from the machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator

import pytest

# Debian keeps servers out of an ordinary user's PATH.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


# Reasons that no machine for continuous integration can take away: another kernel, another
# Python, a tool that cannot. Whatever else is skipped there is a test that was not run.
MAY_SKIP = (
    "abstract names are Linux's",
    "asks the Linux kernel",
    "batches are epoll's",
    "no IPv6 ",
    "kubectl is no package of Debian's",
    "minimum TTLs are Linux's",
    "no memory cgroup can be made here",  # an unprivileged container may not
    "no mounts of its own can be made here",
    "the SDK needs Python 3.11",
    "this kernel ",
    "wrk speaks TCP only",
)


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that was skipped."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A whole module that was."""
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In continuous integration make a failure of a skip that need not be."""
    if os.environ.get("CI") != "true" or report.outcome != "skipped":
        return
    where = report.longrepr
    reason = str(where[2] if isinstance(where, tuple) else where).removeprefix("Skipped: ")
    if not reason.startswith(MAY_SKIP):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI=true does not allow: {reason}"
