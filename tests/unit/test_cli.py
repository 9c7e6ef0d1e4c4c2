"""The command line: what it prints, the exit code it gives, and what it hands to the master."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gthreadsrv import __version__, cli, master
from gthreadsrv.errors import AppLoadError, ConfigError
from gthreadsrv.log import setup
from gthreadsrv.settings import Loaded, Source


@pytest.fixture(autouse=True)
def _somewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A folder of its own, without the environment's settings, and logs as before after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [*os.environ]:
        if name.startswith("GTHREADSRV_") or name in ("PORT", "WEB_CONCURRENCY", "PWD"):
            monkeypatch.delenv(name)
    output, last = setup._output, logging.lastResort
    yield
    setup._output = output
    logging.lastResort = last


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A master that only notes what it is given; what it should do can be put first."""
    given: list[Any] = []

    def serve(loaded: Loaded, reload: Callable[[], Loaded], _started: object) -> int:
        given.extend([loaded, reload])
        return 7

    monkeypatch.setattr(master, "serve", serve, raising=False)
    return given


def run(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "gthreadsrv", *argv],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environ},
    )  # fmt: skip


def test_help_and_version_are_printed() -> None:
    """To standard output, with exit code 0."""
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: gthreadsrv [options] APP\n")
    assert "--limit-request-field_size" in done.stdout
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"gthreadsrv {__version__}\n")


def test_a_wrong_setting_is_one_line_and_exit_code_2() -> None:
    """On standard error."""
    done = run("shop:app", WEB_CONCURRENCY="many")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "gthreadsrv: error: workers: 'many' is not a whole number (set by WEB_CONCURRENCY, "
        "environment); allowed: a whole number, 1 or more, two of them as in 2:8, or auto\n"
    )


def test_check_config_imports_the_application_too(tmp_path: Path) -> None:
    """0 when all is good, 2 for the settings, 3 for the application."""
    (tmp_path / "good_app_for_test.py").write_text("def app(environ, start_response): return []\n")
    (tmp_path / "bad_app_for_test.py").write_text("import not_there_at_all\n")
    done = run("--check-config", "good_app_for_test:app")
    assert (done.returncode, done.stderr) == (0, "")
    assert "can be served" in done.stdout
    done = run("--check-config", "bad_app_for_test:app")
    assert done.returncode == 3
    assert done.stderr.startswith("Traceback")
    assert done.stderr.splitlines()[-1].startswith(
        "gthreadsrv: error: application 'bad_app_for_test:app': importing 'bad_app_for_test', there"
    )
    done = run("--check-config", "missing_app_for_test:app")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert run("--check-config", "-w", "0", "good_app_for_test:app").returncode == 2


def test_check_config_sees_the_applications_surroundings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Directory, import path and variables as when it is served."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "surrounded_for_test.py").write_text(
        "import os\nassert os.environ['GT_KEY'] == 'v'\nassert os.getcwd().endswith('src')\n"
        "def app(environ, start_response): return []\n"
    )
    monkeypatch.setenv("GT_KEY", "before")
    line = ["--check-config", "--chdir", "src", "-e", "GT_KEY=v", "surrounded_for_test:app"]
    assert cli.main(line) == 0
    assert "can be served" in capsys.readouterr().out


def test_print_config_shows_where_each_value_came_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sizing included; warnings go to standard error; the application is not needed."""
    (tmp_path / "gthreadsrv.conf.py").write_text("timeout = 9\nhelper = 1\n")
    assert cli.main(["--print-config", "--threads", "5"]) == 0
    out, err = capsys.readouterr()
    shown = {line.split(" = ")[0].strip(): line for line in out.splitlines()}
    assert shown["timeout"].endswith("# gthreadsrv.conf.py:1")
    assert shown["threads"].endswith("# --threads, command line")
    assert "# sizing: threads as set" in shown["workers"]
    assert err.startswith("gthreadsrv: warning: gthreadsrv.conf.py:2: helper is no setting")


def test_the_master_gets_sized_settings_and_its_exit_code_is_ours(served: list[Any]) -> None:
    """Workers and threads are numbers by then, each with its origin."""
    assert cli.main(["shop:app", "-w", "3"]) == 7
    loaded = served[0]
    assert loaded.settings.workers == 3
    assert loaded.settings.threads >= 1
    assert loaded.origins["workers"].source is Source.COMMAND_LINE
    assert loaded.origins["threads"].source is Source.SIZING


def test_the_boot_log_shows_the_sum_and_the_warnings(served: list[Any], tmp_path: Path) -> None:
    """One line for sizing."""
    (tmp_path / "gthreadsrv.conf.py").write_text("errorlog = 'e.log'\nhelper = 1\n")
    assert cli.main(["shop:app", "-w", "2", "--threads", "3"]) == 7
    warning, sizing = (tmp_path / "e.log").read_text().splitlines()
    assert "helper is no setting" in warning
    for part in ('"event": "sizing"', '"workers": 2', '"threads": 3', '"cpus_from"', '"rule"'):
        assert part in sizing
    assert len(served) == 2


def test_a_reload_reads_everything_anew(
    served: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file again, with the environment of the start: -e must not become a setting."""
    conf = tmp_path / "gthreadsrv.conf.py"
    conf.write_text("timeout = 9\n")
    cli.main(["shop:app"])
    reload = served[1]
    monkeypatch.setenv("WEB_CONCURRENCY", "60")
    conf.write_text("timeout = 8\n")
    assert reload().settings.timeout == 8
    assert reload().settings.workers != 60
    conf.write_text("timeout = \n")
    with pytest.raises(ConfigError, match=r"gthreadsrv\.conf\.py:1: SyntaxError"):
        reload()


def test_errors_of_the_master_end_as_those_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A port that is taken, an application that does not load."""

    def serve(_loaded: Loaded, _reload: object, _started: object) -> int:
        raise AppLoadError("it is broken", "Traceback ...\n")

    monkeypatch.setattr(master, "serve", serve, raising=False)
    assert cli.main(["shop:app"]) == 3
    assert capsys.readouterr().err.endswith("Traceback ...\ngthreadsrv: error: it is broken\n")


def test_a_configuration_file_may_import_the_project_it_lies_in(
    served: list[Any], tmp_path: Path
) -> None:
    """Where the command is started is on the import path."""
    (tmp_path / "sizes_for_test.py").write_text("TIMEOUT = 4\n")
    (tmp_path / "gthreadsrv.conf.py").write_text(
        "from sizes_for_test import TIMEOUT\ntimeout = TIMEOUT\n"
    )
    assert cli.main(["shop:app"]) == 7
    assert served[0].settings.timeout == 4


def test_the_working_directory_keeps_the_name_people_use(
    served: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a reload follows a link to a release that has moved; a stale PWD is ignored."""
    (tmp_path / "release1").mkdir()
    (tmp_path / "current").symlink_to("release1")
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setenv("PWD", str(tmp_path / "current"))
    cli.main(["shop:app"])
    assert served[0].settings.chdir == str(tmp_path / "current")
    monkeypatch.setenv("PWD", "/not/there")
    cli.main(["shop:app"])
    assert served[2].settings.chdir == str(tmp_path / "release1")


def test_the_command_line_imports_little() -> None:
    """Reading settings takes neither logs, parsers, metrics nor the master."""
    code = (
        "import sys\nimport gthreadsrv.cli\n"
        "heavy = {'structlog', 'prometheus_client', 'asyncio', 'h11', 'httptools', 'logging',\n"
        "         'gthreadsrv.master', 'gthreadsrv.worker', 'gthreadsrv.http'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--log-config", "absent.ini"], "logconfig"),
        (["--log-config", "broken.ini"], "logconfig"),
        (["--log-config-json", "absent.json"], "logconfig_json"),
        (["--log-config-json", "broken.ini"], "logconfig_json"),
        (["--log-config", "no-section.ini"], "logconfig"),
        (["--log-config", "no-class.ini"], "logconfig"),
        (["--log-config-json", "no-class.json"], "logconfig_json"),
        (["-c", "no-formatter.py"], "logconfig_dict"),
        (["-c", "no-handler.py"], "logconfig_dict"),
        (["-c", "no-such-word.py"], "logconfig_dict"),
        (["--access-logfile", "-", "--access-logformat", "%(no"], "access_log_format"),
    ],
)
def test_check_config_finds_what_would_keep_the_server_from_starting(
    words: list[str], name: str, tmp_path: Path
) -> None:
    """Logging is set up by the server alone, and is looked at all the same."""
    (tmp_path / "good_app_for_test.py").write_text("def app(e, s): pass")
    ini = (
        "[loggers]\nkeys=root\n[logger_root]\nhandlers=own\n[formatters]\nkeys=\n[handlers]\nkeys="
    )
    handler = f"{{'class': 'logging.FileHandler', 'filename': {str(tmp_path / 'made.log')!r}"
    handlers = f"logconfig_dict = {{'handlers': {{'own': {handler}"
    root = "'loggers': {}, 'root': {'level': 'INFO', 'handlers': ['own']}"
    for file, text in {
        "broken.ini": "[loggers\n",
        "no-section.ini": f"{ini}own\n",
        "no-class.ini": f"{ini}own\n[handler_own]\nclass=FileHandlers\n",
        "no-class.json": '{"handlers": {"own": {"class": "logging.FileHandlers"}}, "loggers": {}}',
        "no-formatter.py": f"{handlers}, 'formatter': 'absent'}}}}, {root}}}",
        "no-handler.py": f"{handlers}}}}}, 'loggers': {{}}, 'root': {{'handlers': ['another']}}}}",
        "no-such-word.py": f"{handlers}, 'encodings': 'ascii'}}}}, {root}}}",
    }.items():
        (tmp_path / file).write_text(text)
    done = run("--check-config", *words, "good_app_for_test:app")
    assert not (tmp_path / "made.log").exists()
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith(f"gthreadsrv: error: {name}: ")
    assert done.stderr.count("\n") == 1


def test_check_config_opens_no_log_file(tmp_path: Path) -> None:
    """It would belong to whoever checks, and the server could not write to it."""
    (tmp_path / "good_app_for_test.py").write_text("def app(e, s): pass")
    (tmp_path / "shop.ini").write_text(
        "[loggers]\nkeys = root\n[handlers]\nkeys = own, other\n[formatters]\nkeys = plain\n"
        "[logger_root]\nhandlers = own\n[formatter_plain]\nformat = %(message)s\n"
        "[handler_own]\nclass = FileHandler\nargs = ('%(here)s/made.log',)\nformatter = plain\n"
        "[handler_other]\nclass = logging.handlers.SocketHandler\nargs = ('absent.test', 1)\n"
    )
    (tmp_path / "shop.py").write_text(
        "logconfig_dict = {'handlers': {\n"
        f"    'own': {{'class': 'logging.FileHandler', 'filename': {str(tmp_path / 'made.log')!r},\n"
        "        'formatter': 'plain', 'level': 'INFO', 'delay': False},\n"
        "    'kept': {'class': 'logging.handlers.MemoryHandler', 'capacity': 5, 'target': 'own'},\n"
        "    'far': {'()': 'logging.handlers.SocketHandler', 'host': 'absent.test', 'port': 1}},\n"
        "    'formatters': {'plain': {'format': '%(message)s'}},\n"
        "    'root': {'handlers': ['kept', 'far']}, 'loggers': {}}\n"
    )
    for words in (["--log-config", "shop.ini"], ["-c", "shop.py"]):
        done = run("--check-config", *words, "good_app_for_test:app")
        assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "made.log").exists()


def test_a_hook_that_keeps_the_server_from_starting_shows_where(tmp_path: Path) -> None:
    """Its traceback is the operator's own code, from the hook's first line on; then the line."""
    (tmp_path / "good_app_for_test.py").write_text("def app(e, s): pass")
    (tmp_path / "gthreadsrv.conf.py").write_text(
        "def helper():\n    return {}['gone']\ndef on_starting(server):\n    helper()\n"
    )
    done = run("--bind", "127.0.0.1:0", "--metrics-bind", "off", "good_app_for_test:app")
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert lines[-1].startswith("gthreadsrv: error: hook on_starting failed: KeyError: 'gone'")
    assert "line 2, in helper" in done.stderr
    assert "calling.py" not in done.stderr


def test_check_config_misses_a_parser_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, before the application is imported."""
    monkeypatch.setattr("gthreadsrv.http.parser.find_spec", lambda _name: None)
    assert cli.main(["--check-config", "--http-parser", "httptools", "absent_for_test:app"]) == 2
    assert capsys.readouterr().err.startswith("gthreadsrv: error: http_parser: the httptools")
