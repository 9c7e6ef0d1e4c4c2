"""The configuration file: what it may say, and that its faults come out as one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gthreadsrv.errors import ConfigError
from gthreadsrv.settings import Loaded, Source, load


def read(folder: Path, text: str, *argv: str, name: str = "gthreadsrv.conf.py") -> Loaded:
    """Load with a configuration file of this text."""
    (folder / name).write_text(text)
    return load(["a:b", *argv], {}, str(folder))


def fault(folder: Path, text: str) -> str:
    """The one line for a file that is refused."""
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_python_values_and_texts_are_both_taken(tmp_path: Path) -> None:
    """A file says numbers as numbers, but may take them from the environment as text."""
    loaded = read(
        tmp_path,
        "import os\n"
        "workers = 2\n"
        "threads = os.environ.get('NOT_SET', '7')\n"
        "bind = ['127.0.0.1:1', 'unix:/x']\n"
        "timeout = 2.5\n"
        "preload_app = True\n"
        "umask = 0o22\n"
        "user = None\n"
        "raw_env = ['A=1']\n"
        "forwarded_allow_ips = '*'\n",
    )
    made = loaded.settings
    assert (made.workers, made.threads, made.timeout) == (2, 7, 2.5)
    assert made.bind == ("127.0.0.1:1", "unix:/x")
    assert made.preload_app
    assert (made.umask, made.user) == (0o22, None)
    assert made.raw_env == ("A=1",)
    assert made.forwarded_allow_ips == ("*",)
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("{'X-Forwarded-Proto': 'https'}", (("X-FORWARDED-PROTO", "https"),)),
        ("{}", ()),
        ("'X-A=on, x-b=y=z'", (("X-A", "on"), ("X-B", "y=z"))),
    ],
)
def test_scheme_headers_are_a_dict_as_with_gunicorn(
    tmp_path: Path, text: str, made: tuple[tuple[str, str], ...]
) -> None:
    """Or one text, for the environment."""
    settings = read(tmp_path, f"secure_scheme_headers = {text}\n").settings
    assert settings.secure_scheme_headers == made


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("secure_scheme_headers = ['X-A']", "no dict"),
        ("secure_scheme_headers = {'X_A': 'on'}", "'X_A' is not the name of a field"),
        ("secure_scheme_headers = {'X-A': ''}", "it is empty"),
        ("secure_scheme_headers = {'X-A': 1}", "1 is not a text"),
        ("secure_scheme_headers = 'X-A'", "it is empty"),
        ("forwarder_headers = ['SCRIPT-NAME']", "'SCRIPT-NAME' is not a name with _"),
        ("proxy_protocol = 3", "3 is not one of them"),
        ("forwarded_client = True", "True is not one of them"),
    ],
)
def test_what_is_wrong_about_proxies_is_said(tmp_path: Path, text: str, why: str) -> None:
    """In one line, with the place."""
    line = fault(tmp_path, text)
    assert why in line
    assert "gthreadsrv.conf.py:1" in line


def test_the_proxy_protocol_may_be_true_or_false(tmp_path: Path) -> None:
    """As it was in gunicorn's older files."""
    assert read(tmp_path, "proxy_protocol = True").settings.proxy_protocol == "auto"
    assert read(tmp_path, "proxy_protocol = False").settings.proxy_protocol == "off"


def test_origins_name_the_line_where_only_one_can_be_meant(tmp_path: Path) -> None:
    """With two assignments the file alone cannot say which one ran."""
    loaded = read(
        tmp_path,
        "workers = 2\nif workers:\n    threads = 3\nelse:\n    threads = 4\n"
        "try:\n    backlog = 5\nexcept ValueError:\n    pass\n",
    )
    assert str(loaded.origins["workers"]) == "gthreadsrv.conf.py:1"
    assert str(loaded.origins["threads"]) == "gthreadsrv.conf.py"
    assert str(loaded.origins["backlog"]) == "gthreadsrv.conf.py:7"
    assert loaded.origins["workers"].source is Source.FILE


def test_another_file_can_be_named_and_then_the_default_one_is_not_read(tmp_path: Path) -> None:
    """-c, also with gunicorn's `file:` before the path."""
    (tmp_path / "gthreadsrv.conf.py").write_text("threads = 9")
    for name in ("prod.py", "file:prod.py"):
        loaded = read(tmp_path, "workers = 4", "-c", name, name="prod.py")
        assert (loaded.settings.workers, loaded.settings.threads) == (4, 0)
        assert loaded.settings.config == str(tmp_path / "prod.py")


@pytest.mark.parametrize("how", ["variable", "cmd_args"])
def test_the_file_can_be_named_by_a_variable(tmp_path: Path, how: str) -> None:
    """An image sets its file without owning the command."""
    (tmp_path / "prod.py").write_text("workers = 4")
    environ = {"GTHREADSRV_CONFIG": "prod.py"}
    if how == "cmd_args":
        environ = {"GTHREADSRV_CMD_ARGS": "-c prod.py", "GTHREADSRV_CONFIG": "missing.py"}
    assert load(["a:b"], environ, str(tmp_path)).settings.workers == 4


def test_unknown_names_get_one_warning_each_and_helpers_none(tmp_path: Path) -> None:
    """What has no effect is said; imports, loops, _names, CONSTANTS and helpers that are used not."""
    loaded = read(
        tmp_path,
        "import multiprocessing\n"
        "from os import environ, path as where\n"
        "BASE = '/srv'\n"
        "_cores = 3\n"
        "for i in range(3):\n    pass\n"
        "class Helper: pass\n"
        "worker = 4\n"
        "x, y = 1, 2\n"
        "def post_fork(server, worker): pass\n"
        "def helper(): pass\n"
        "base_workers_text = '2'\n"
        "workers = int(base_workers_text)\n",
    )
    assert [warning.split(" is no setting")[0] for warning in loaded.warnings] == [
        "gthreadsrv.conf.py:8: worker",
        "gthreadsrv.conf.py:9: x",
        "gthreadsrv.conf.py:9: y",
        "gthreadsrv.conf.py:11: helper",
    ]
    assert "did you mean workers?" in loaded.warnings[0]


def test_a_function_in_the_file_sees_the_files_names(tmp_path: Path) -> None:
    """The file is one module, not a class body."""
    text = "BASE = 2\ndef _workers():\n    return BASE + 1\nworkers = _workers()"
    assert read(tmp_path, text).settings.workers == 3


def test_settings_may_be_imported_from_a_shared_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A star import brings settings; where it got them cannot be told by line."""
    (tmp_path / "shared_conf_for_test.py").write_text("workers = 6\nhelper = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = read(tmp_path, "from shared_conf_for_test import *")
    assert loaded.settings.workers == 6
    assert str(loaded.origins["workers"]) == "gthreadsrv.conf.py"
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("x = 1\nworkers = = 2\n", "gthreadsrv.conf.py:2: SyntaxError: "),
        ("\tx\n y", "gthreadsrv.conf.py:1: IndentationError: "),
        ("x = 'a\0b'", "gthreadsrv.conf.py"),
        ("\n\nworkers = {}['n']", "gthreadsrv.conf.py:3: KeyError: 'n'; correct"),
        ("def _f():\n    raise ValueError('two\\nlines')\n_f()", "gthreadsrv.conf.py:2: ValueError: two lines;"),
        ("import json\n\njson.loads('{')", "gthreadsrv.conf.py:3: JSONDecodeError: "),
        ("import sys\nsys.exit(4)", "gthreadsrv.conf.py:2: SystemExit: 4; correct"),
        ("import not_there_at_all", "gthreadsrv.conf.py:1: ModuleNotFoundError: "),
    ],
)  # fmt: skip
def test_a_fault_in_the_file_is_one_line_with_its_place(
    tmp_path: Path, text: str, start: str
) -> None:
    """No traceback: the line in the file is what a person needs."""
    assert fault(tmp_path, text).startswith(start)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workers = True", "workers: True is not a whole number (set by gthreadsrv.conf.py:1)"),
        ("workers = 2.0", "workers: 2.0 is not a whole number"),
        ("timeout = []", "timeout: [] is not a number of seconds"),
        ("timeout = 10 ** 400", "is not a number of seconds"),
        ("preload_app = 'perhaps'", "preload_app: 'perhaps' is neither true nor false"),
        ("bind = 8000", "bind: 8000 is neither a text nor a list of texts"),
        ("bind = [8000]", "bind: 8000 is not a text"),
        ("wsgi_app = 3", "wsgi_app: 3 is not a text"),
        ("raw_env = [None]", "raw_env: it is not a text"),
        ("umask = 0o7777", "umask: 4095 is out of range"),
        ("proc_name = 'a\\x1b[31m'", "holds control characters"),
    ],
)
def test_a_wrong_type_gets_one_line_too(tmp_path: Path, text: str, words: str) -> None:
    """Values of Python are checked like texts."""
    line = fault(tmp_path, text) if "wsgi_app" not in text else _fault_without_app(tmp_path, text)
    assert words in line


def _fault_without_app(folder: Path, text: str) -> str:
    (folder / "gthreadsrv.conf.py").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load([], {}, str(folder))
    return str(caught.value)


@pytest.mark.parametrize("name", ["raw_env", "raw_paste_global_conf", "logconfig_dict"])
@pytest.mark.parametrize("value", ["{'PASSWORD': 'hunter2'}", "{'hunter2'}", "['hunter2']"])
def test_a_wrong_value_that_may_be_a_secret_is_not_shown(
    tmp_path: Path, name: str, value: str
) -> None:
    """A dictionary where texts are wanted is an easy mistake, and its line goes to the log."""
    if name == "logconfig_dict":
        value = f"[{value}]"
    line = fault(tmp_path, f"{name} = {value}")
    assert line.startswith(f"{name}: ")
    assert "hunter2" not in line
