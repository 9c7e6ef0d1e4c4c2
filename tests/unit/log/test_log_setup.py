"""Setting up the logs: where lines go, which are kept, and what is left alone."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from gthreadsrv import log
from gthreadsrv.errors import ConfigError
from gthreadsrv.log import setup
from gthreadsrv.log.context import bind_request, clear
from gthreadsrv.log.logfile import LogFile
from gthreadsrv.settings import Settings


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The process's logs as they were, whatever a test makes of them."""
    output, last = setup._output, logging.lastResort
    setup._output = setup._Output(setup.LogFile("-", 2), "info", setup.render_json)
    yield
    setup._output = output
    logging.lastResort = last


def lines(path: Path) -> list[dict[str, Any]]:
    """The log's lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def configured(tmp_path: Path, **changes: Any) -> Path:
    """Logs set up into a file."""
    path = tmp_path / "error.log"
    log.configure(Settings(app="a:b", errorlog=str(path), **changes))
    return path


def test_a_line_says_who_speaks(tmp_path: Path) -> None:
    """Fields of the call, of the logger, and of the process."""
    path = configured(tmp_path)
    log.bind_process(role="worker", slot=3)
    log.get_logger(part="pool").info("ready", threads=4)
    (line,) = lines(path)
    assert {k: v for k, v in line.items() if k != "time"} == {
        "level": "info", "event": "ready", "part": "pool", "threads": 4,
        "pid": os.getpid(), "role": "worker", "slot": 3,
    }  # fmt: skip


def test_what_a_call_says_counts_more_than_who_speaks(tmp_path: Path) -> None:
    """The master's line about a worker names the worker's pid and slot."""
    path = configured(tmp_path)
    log.bind_process(role="master", slot="-")
    log.get_logger().warning("worker exited", pid=7, slot=3)
    (line,) = lines(path)
    assert (line["pid"], line["slot"], line["role"]) == (7, 3, "master")


@pytest.mark.parametrize(
    ("level", "kept"),
    [("debug", 5), ("info", 4), ("warning", 3), ("error", 2), ("critical", 1)],
)
def test_lines_below_the_level_are_not_written(tmp_path: Path, level: str, kept: int) -> None:
    """Also by loggers made before the logs were set up."""
    logger = log.get_logger()
    path = configured(tmp_path, loglevel=level)
    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, name)(name)
    assert [line["level"] for line in lines(path)] == (
        ["debug", "info", "warning", "error", "critical"][-kept:]
    )


def test_an_exception_brings_its_traceback_and_the_request(tmp_path: Path) -> None:
    """In the same line, as one field."""
    path = configured(tmp_path)
    bind_request("abc-1", None)
    try:
        raise RuntimeError("broken\nheart")
    except RuntimeError:
        log.get_logger().exception("application error")
    clear()
    (line,) = lines(path)
    assert line["request_id"] == "abc-1"
    assert line["level"] == "error"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("RuntimeError: broken\nheart")


def test_the_applications_structlog_is_left_alone(tmp_path: Path) -> None:
    """We configure a logger, not the library; and it may configure the library as it likes."""
    path = configured(tmp_path)
    assert not structlog.is_configured()
    try:
        structlog.configure(processors=[lambda *_: "theirs"], cache_logger_on_first_use=True)
        log.get_logger().info("ours")
    finally:
        structlog.reset_defaults()
    assert [line["event"] for line in lines(path)] == ["ours"]


def test_an_application_without_logging_gets_its_warnings_into_our_log(tmp_path: Path) -> None:
    """As the standard library would print them, but as lines of ours with the request."""
    path = configured(tmp_path)
    bind_request("abc-1", None)
    logger = logging.getLogger("test.shop")
    logger.propagate = False  # pytest's own handlers sit on the root
    logger.info("not wanted")
    logger.warning("stock of %s is %d", "tea", 0)
    logger.warning("a bad %d format", "x")
    try:
        raise KeyError("k")
    except KeyError:
        logger.exception("failed")
    clear()
    logger.propagate = True
    first, second, third = lines(path)
    assert (first["event"], first["logger"]) == ("stock of tea is 0", "test.shop")
    assert (first["level"], first["request_id"]) == ("warning", "abc-1")
    assert second["event"] == "'a bad %d format' ('x',)"
    assert third["exception"].endswith("KeyError: 'k'")


def test_an_application_with_logging_keeps_it(tmp_path: Path) -> None:
    """A basicConfig in the application still works, and nothing is written twice."""
    path = configured(tmp_path)
    code = (
        "import logging, sys\n"
        "from gthreadsrv import log\n"
        "from gthreadsrv.settings import Settings\n"
        f"log.configure(Settings(app='a:b', errorlog={str(path)!r}))\n"
        "assert not logging.root.handlers\n"
        "logging.basicConfig(stream=sys.stdout, format='mine %(message)s')\n"
        "logging.getLogger('x').warning('hello')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "mine hello\n"
    assert lines(path) == []


def test_a_log_that_cannot_be_opened_is_one_line_and_changes_nothing(tmp_path: Path) -> None:
    """A reload with a wrong path goes on logging where it did."""
    path = configured(tmp_path)
    for wrong in (
        Settings(app="a:b", errorlog=str(tmp_path / "no" / "x.log")),
        Settings(app="a:b", accesslog=str(tmp_path / "no" / "x.log")),
        Settings(app="a:b", accesslog=str(tmp_path / "a.log"), access_log_format="%(h"),
    ):
        with pytest.raises(ConfigError) as caught:
            log.configure(wrong)
        assert "\n" not in str(caught.value)
    log.get_logger().info("still here")
    assert [line["event"] for line in lines(path)] == ["still here"]


def test_configuring_again_moves_on_and_leaks_nothing(tmp_path: Path) -> None:
    """A reload with other paths."""
    configured(tmp_path, accesslog=str(tmp_path / "a.log"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        path = configured(tmp_path, accesslog=str(tmp_path / "a.log"))
    assert len(os.listdir("/proc/self/fd")) == before
    log.get_logger().info("here")
    assert lines(path)[-1]["event"] == "here"


def test_the_access_log_exists_only_when_asked_for(tmp_path: Path) -> None:
    """Off by default."""
    configured(tmp_path)
    assert log.access_log() is None
    configured(tmp_path, accesslog=str(tmp_path / "a.log"))
    assert log.access_log() is not None


def test_an_unknown_atom_is_warned_of(tmp_path: Path) -> None:
    """The line has a dash there; somebody should know."""
    path = configured(tmp_path, accesslog="-", access_log_format="%(z)s %(h)s")
    (line,) = lines(path)
    assert (line["level"], line["atoms"]) == ("warning", "%(z)s")


@pytest.mark.parametrize(
    ("log_format", "form", "json_line"),
    [("auto", "auto", True), ("json", "auto", True), ("console", "auto", False),
     ("console", "json", True), ("json", "combined", False), ("auto", "%(h)s", False)],
)  # fmt: skip
def test_the_access_logs_form_follows_the_logs(
    tmp_path: Path, log_format: str, form: str, json_line: bool
) -> None:
    """JSON where the log is JSON, combined where it is for people, unless one is chosen."""
    path = tmp_path / "a.log"
    configured(tmp_path, log_format=log_format, access_log_format=form, accesslog=str(path))
    access = log.access_log()
    assert access is not None
    request = SimpleNamespace(method="GET", target="/", minor=1, headers=[], section=None)
    response = SimpleNamespace(code=200, sent=0, headers=[])
    access.log("::1", request, response, 0.1, 1.0, "x", "", {})
    assert path.read_text().startswith("{") is json_line


def test_on_a_terminal_lines_are_for_people(tmp_path: Path) -> None:
    """`auto` looks at what the log is; NO_COLOR is respected."""
    master, terminal = os.openpty()
    name = os.ttyname(terminal)
    try:
        log.configure(Settings(app="a:b", errorlog=name))
        log.get_logger().info("hello there")
        shown = os.read(master, 1000).decode()
        assert "hello there" in shown
        assert "\x1b[" in shown
        assert "{" not in shown
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NO_COLOR", "1")
            log.configure(Settings(app="a:b", errorlog=name))
        log.get_logger().info("hello there")
        assert "\x1b[" not in os.read(master, 1000).decode()
    finally:
        configured(tmp_path)
        os.close(terminal)
        os.close(master)


def test_after_rotation_both_logs_go_on_in_new_files(tmp_path: Path) -> None:
    """USR1."""
    access = tmp_path / "a.log"
    path = configured(tmp_path, accesslog=str(access))
    log.get_logger().info("old")
    path.rename(tmp_path / "error.log.1")
    access.rename(tmp_path / "a.log.1")
    log.reopen()
    log.get_logger().info("new")
    assert [line["event"] for line in lines(path)] == ["new"]
    assert [line["event"] for line in lines(tmp_path / "error.log.1")] == ["old"]
    assert access.exists()


def test_a_log_that_cannot_be_reopened_goes_on_in_the_old_file(tmp_path: Path) -> None:
    """A worker without the right to create files must not go silent."""
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "error.log"
    log.configure(Settings(app="a:b", errorlog=str(path)))
    folder.rename(tmp_path / "away")
    log.reopen()
    (line,) = lines(tmp_path / "away" / "error.log")
    assert line["event"] == "log file not reopened"
    assert line["path"] == str(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_belong_to_the_user_the_workers_run_as(tmp_path: Path) -> None:
    """So that a worker can reopen what the master has opened as root."""
    access = tmp_path / "a.log"
    path = configured(tmp_path, accesslog=str(access), user="65534", group="65533")
    for file in (path, access):
        assert (file.stat().st_uid, file.stat().st_gid) == (65534, 65533)


def test_a_closed_standard_error_stops_nothing(tmp_path: Path) -> None:
    """There is nobody to tell."""
    code = (
        "import os\nos.close(2)\n"
        "from gthreadsrv import log\n"
        "log.get_logger().info('x')\nprint('alive')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "alive\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand a file to another user")
def test_a_linked_log_file_keeps_its_owner(tmp_path: Path) -> None:
    """Who may write to the folder of the logs cannot have another file given to them."""
    precious, link = tmp_path / "precious", tmp_path / "access.log"
    precious.write_text("root's\n")
    link.symlink_to(precious)
    file = LogFile(str(link), 1, (65534, 65534))
    file.close()

    assert precious.stat().st_uid == 0
