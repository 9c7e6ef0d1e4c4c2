"""Lines through Python's logging: configurations that are wrong, and what a record holds."""

from __future__ import annotations

import json
import logging
import logging.config
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gthreadsrv import log
from gthreadsrv.errors import ConfigError
from gthreadsrv.log import setup
from gthreadsrv.log.atoms import Atoms, Record
from gthreadsrv.settings import Settings

LOGGERS = ("", "gunicorn.error", "gunicorn.access")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The process's logs as they were, Python's own included."""
    output, last = setup._output, logging.lastResort
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(one.handlers[:], one.level, one.propagate) for one in loggers]
    setup._output = setup._Output(setup.LogFile("-", 2), "info", setup.render_json)
    yield
    setup._output, logging.lastResort = output, last
    for one, (handlers, level, propagate) in zip(loggers, before, strict=True):
        for handler in one.handlers:
            if handler not in handlers:
                handler.close()
        one.handlers[:], one.level, one.propagate = handlers, level, propagate
        one.disabled = False


class Kept(logging.Handler):
    """Keeps the records it gets."""

    records: list[logging.LogRecord]

    def __init__(self) -> None:
        super().__init__()
        Kept.records = []

    def emit(self, record: logging.LogRecord) -> None:
        Kept.records.append(record)


def to_kept(level: str = "DEBUG") -> dict[str, Any]:
    """A configuration whose one handler keeps records."""
    return {
        "handlers": {"kept": {"()": Kept}},
        "root": {"handlers": ["kept"], "level": level},
        "loggers": {"gunicorn.error": {"propagate": True, "level": level, "handlers": []},
                    "gunicorn.access": {"propagate": True, "handlers": []}},
    }  # fmt: skip


HEAD = SimpleNamespace(
    method="GET",
    target="/a?b",
    minor=1,
    headers=[(b"User-Agent", b'x"y'), (b"Cookie", b"secret=1")],
    section=None,
)
RESPONSE = SimpleNamespace(code=200, sent=5, headers=[("Content-Type", "text/x")])


def access(environ: dict[str, object] | None = None) -> None:
    """Log one response."""
    found = log.access_log()
    assert found is not None
    found.log("10.0.0.1", HEAD, RESPONSE, 0.25, 1_700_000_000.0, "", "", environ or {})


def test_lines_become_records_with_their_fields() -> None:
    """Text, level, fields and traceback; percent signs are no format."""
    log.configure(Settings(app="a:b", logconfig_dict=to_kept()))
    try:
        raise ValueError("wrong")
    except ValueError:
        log.get_logger().error("100% bad", name="n", worker=3, words="two words", exc_info=True)
    log.get_logger().debug("quiet")
    record, quiet = Kept.records
    assert record.getMessage() == '100% bad name=n worker=3 words="two words"'
    assert (record.levelname, record.name, quiet.levelname) == ("ERROR", "gunicorn.error", "DEBUG")
    assert record.worker == 3  # type: ignore[attr-defined]
    assert logging.Formatter().format(record).endswith("ValueError: wrong")


def test_the_configurations_level_decides() -> None:
    """Not --log-level, as with gunicorn."""
    log.configure(Settings(app="a:b", logconfig_dict=to_kept("WARNING"), loglevel="debug"))
    log.get_logger().info("unheard")
    log.get_logger().warning("heard")
    assert [record.getMessage() for record in Kept.records] == ["heard"]


def test_access_lines_are_records_with_atoms() -> None:
    """What formatters look up: by name, upper or lower case, a dash where there is nothing."""
    log.configure(Settings(app="a:b", logconfig_dict=to_kept()))
    access({"shop.user": "u"})
    (record,) = Kept.records
    assert record.name == "gunicorn.access"
    assert record.getMessage().endswith('"GET /a?b HTTP/1.1" 200 5 "-" "x\\"y"')
    atoms: Any = record.args
    assert isinstance(atoms, Atoms)
    assert (atoms["m"], atoms["s"], atoms["D"], atoms["{user-AGENT}i"]) == (
        "GET",
        200,
        250000,
        'x\\"y',
    )
    assert (atoms["{content-type}o"], atoms["{shop.user}e"]) == ("text/x", "u")
    assert (atoms["nothing"], atoms["{}i"], atoms["{x"]) == ("-", "-", "-")
    assert atoms["{cookie}i"] == "***"
    assert len(dict(atoms)) == len(atoms)


def test_a_filter_that_raises_costs_a_line_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As a handler that does: Python tells it on standard error, and requests go on."""

    def nosy(record: logging.LogRecord) -> bool:
        return bool(record.user)  # type: ignore[attr-defined]  # what only the application sets

    configuration = to_kept()
    configuration["filters"] = {"nosy": {"()": lambda: nosy}}
    configuration["handlers"]["kept"]["filters"] = ["nosy"]
    log.configure(Settings(app="a:b", logconfig_dict=configuration))
    log.get_logger().warning("careful")
    access()
    assert Kept.records == []
    told = capsys.readouterr().err
    assert told.count("AttributeError: 'LogRecord' object has no attribute 'user'") >= 2


def test_atoms_of_a_record_can_be_formatted_by_any_text() -> None:
    """A mapping is what logging's % takes."""
    record = Record("h", "GET", "/", 1, 200, 1, 0.5, 0.0, [], "", "", [], {})
    made = logging.LogRecord("n", 20, "", 0, "%(m)s %(s)d %(L)s %(other)s", (Atoms(record),), None)
    assert made.getMessage() == "GET 200 0.500000 -"


def test_a_configuration_without_our_loggers_leaves_lines_in_our_files(tmp_path: Path) -> None:
    """Nothing is lost, and no line goes round in circles."""
    config = {"loggers": {"shop": {"level": "INFO"}}}
    settings = Settings(
        app="a:b", logconfig_dict=config, errorlog=str(tmp_path / "e"),
        accesslog=str(tmp_path / "a"),
    )  # fmt: skip
    log.configure(settings)
    log.get_logger().warning("here", worker=1)
    access()
    (line,) = [json.loads(x) for x in (tmp_path / "e").read_text().splitlines()]
    assert (line["event"], line["worker"], "logger" in line) == ("here", 1, False)
    assert '"GET /a?b HTTP/1.1" 200 5' in (tmp_path / "a").read_text()


def test_leaving_the_configuration_out_again_brings_the_files_back(tmp_path: Path) -> None:
    """A reload may take it away."""
    log.configure(Settings(app="a:b", logconfig_dict=to_kept()))
    log.configure(Settings(app="a:b", errorlog=str(tmp_path / "e"), log_format="json"))
    log.get_logger().info("back")
    logging.getLogger("gunicorn.error").info("said by %s", "a hook")
    logging.getLogger("gunicorn.error").debug("too quiet")
    lines = [json.loads(x) for x in (tmp_path / "e").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["back", "said by a hook"]
    assert lines[1]["logger"] == "gunicorn.error"
    assert Kept.records == []


def test_a_json_file_and_an_ini_file(tmp_path: Path) -> None:
    """JSON goes before INI, and a dictionary before both."""
    ini, jsonfile = tmp_path / "l.ini", tmp_path / "l.json"
    ini.write_text(
        "[loggers]\nkeys=root,e\n[handlers]\nkeys=f\n[formatters]\nkeys=p\n"
        "[logger_root]\nhandlers=f\nlevel=INFO\n"
        "[logger_e]\nqualname=gunicorn.error\nhandlers=f\npropagate=0\nlevel=INFO\n"
        "[handler_f]\nclass=FileHandler\nargs=('%(here)s/ini.log',)\nformatter=p\n"
        "[formatter_p]\nformat=ini %(levelname)s %(message)s\n"
    )
    said = {
        "handlers": {"f": {"class": "logging.FileHandler", "filename": str(tmp_path / "json.log")}},
        "root": {"handlers": ["f"], "level": "INFO"},
        "loggers": {"gunicorn.error": {"propagate": True}},
    }
    jsonfile.write_text(json.dumps(said))
    log.configure(Settings(app="a:b", logconfig=str(ini)))
    log.get_logger().info("one")
    assert (tmp_path / "ini.log").read_text() == "ini INFO one\n"
    log.configure(Settings(app="a:b", logconfig=str(ini), logconfig_json=str(jsonfile)))
    log.get_logger().info("two")
    assert "two\n" in (tmp_path / "json.log").read_text()
    log.configure(Settings(app="a:b", logconfig_json=str(jsonfile), logconfig_dict=to_kept()))
    log.get_logger().info("three")
    assert [record.getMessage() for record in Kept.records] == ["three"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"logconfig_dict": {"version": 2}}, "logconfig_dict: Unsupported version: 2"),
        ({"logconfig_dict": {"handlers": {"x": {"class": "no.such.Handler"}}}},
         "logconfig_dict: Unable to configure handler 'x'"),
        ({"logconfig_dict": {"loggers": 3}}, "logconfig_dict: "),
        ({"logconfig_json": "/not/there.json"}, "logconfig_json: [Errno 2] No such file"),
        ({"logconfig": "/not/there.ini"}, "logconfig: [Errno 2] No such file"),
        ({"syslog": True, "syslog_addr": "tcp://127.0.0.1:1"}, "syslog_addr: cannot reach tcp:"),
        ({"logconfig_dict": {"root": {}}, "access_log_format": "%q"}, "access_log_format: "),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_one_line(changes: dict[str, Any], words: str) -> None:
    """What is wrong, in whose setting; logs stay as they were."""
    before = setup._output
    with pytest.raises(ConfigError) as caught:
        log.configure(Settings(app="a:b", **changes))
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
    assert setup._output is before


def test_a_syslog_that_goes_away_is_not_complained_about(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Logging must neither fail a request nor fill standard error with tracebacks."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "s"))
        log.configure(Settings(app="a:b", syslog=True, syslog_addr=f"unix://{tmp_path}/s#dgram"))
        log.get_logger().info("one")
        access()
        daemon.settimeout(10)
        assert b"gunicorn.a.b.error: [" in daemon.recv(4096)
        assert b"gunicorn.a.b.access: [" in daemon.recv(4096)
    (tmp_path / "s").unlink()
    capfd.readouterr()
    log.get_logger().info("two")
    access()
    assert "Traceback" not in capfd.readouterr().err


def test_access_lines_can_be_kept_out_of_syslog(tmp_path: Path) -> None:
    """Then there are none at all, unless there is a file for them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "s"))
        where = f"unix://{tmp_path}/s#dgram"
        log.configure(
            Settings(
                app="a:b", syslog=True, syslog_addr=where, disable_redirect_access_to_syslog=True
            )
        )
        assert log.access_log() is None
        log.configure(
            Settings(app="a:b", syslog=True, syslog_addr=where, accesslog=str(tmp_path / "a"))
        )
        access()
        assert (tmp_path / "a").read_text().count("\n") == 1


def test_files_of_handlers_are_reopened(tmp_path: Path) -> None:
    """USR1; one that cannot be is reported and kept."""
    path = tmp_path / "logs" / "x.log"
    path.parent.mkdir()
    config = {
        "handlers": {"f": {"class": "logging.FileHandler", "filename": str(path)}},
        "root": {"handlers": ["f"], "level": "INFO"},
        "loggers": {"gunicorn.error": {"propagate": True}},
    }
    log.configure(Settings(app="a:b", logconfig_dict=config))
    log.get_logger().info("one")
    path.rename(path.with_suffix(".1"))
    log.reopen()
    log.get_logger().info("two")
    assert path.read_text() == "two\n"
    path.parent.rename(tmp_path / "moved")
    log.reopen()
    log.get_logger().info("three")
    text = (tmp_path / "moved" / "x.log").read_text()
    assert "log file not reopened" in text
    assert text.endswith("three\n")
