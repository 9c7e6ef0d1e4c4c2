"""All of gunicorn's settings are known: by flag, in the file and in GUNICORN_CMD_ARGS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gthreadsrv.errors import ConfigError
from gthreadsrv.hooks.cfg import Cfg
from gthreadsrv.settings import Loaded, load
from gthreadsrv.settings.gunicorn import FOREIGN, FOREIGN_BY_NAME, SHARED, Foreign
from gthreadsrv.settings.hooks import HOOKS, HOOKS_BY_NAME
from gthreadsrv.settings.table import BY_FILE_NAME, BY_NAME, TABLE

HERE = str(Path(__file__).parent)
# Names and flags of gunicorn 27.0.1, for those who have no gunicorn.
LISTED = {
    name: flags
    for name, *flags in map(
        str.split, Path(__file__).with_name("gunicorn-27.0.1.txt").read_text().splitlines()
    )
}
# What needs a value that is one.
VALUES = {
    "--bind": ":1", "-b": ":1", "--worker-class": "gthread", "-k": "gthread", "--chdir": HERE,
    "-u": "root", "--user": "root", "-g": "root", "--group": "root", "-e": "A=1", "--env": "A=1",
    "--log-level": "info", "--log-syslog-to": "udp://h:1", "--log-syslog-facility": "user",
    "--forwarded-allow-ips": "*", "--header-map": "drop", "--http-parser": "auto",
    "--paste-global": "a=1", "--reload-engine": "poll", "--paste": HERE + "/configs/pasted.ini",
    "--paster": HERE + "/configs/pasted.ini", "-c": "/dev/null", "--config": "/dev/null",
    "--access-logformat": "%(h)s", "--cert-reqs": "2", "--proxy-protocol": "v2",
    "--proxy-allow-from": "*", "--forwarder-headers": "SCRIPT_NAME",
}  # fmt: skip


def takes_nothing(flag: str) -> bool:
    """Whether a flag is a switch."""
    for setting in TABLE:
        if flag in setting.flags:
            return not setting.metavar
    foreign = next(one for one in FOREIGN if flag in one.flags)
    return foreign.nargs in (0, "?")


def test_every_setting_of_gunicorns_is_in_one_table() -> None:
    """120: settings that are ours too, hooks, and those that are taken with a line."""
    ours = [*SHARED, *HOOKS_BY_NAME, *FOREIGN_BY_NAME]
    assert len(ours) == len(set(ours)) == len(LISTED) == 120
    assert set(ours) == set(LISTED)
    assert len(FOREIGN) == len(FOREIGN_BY_NAME)
    assert len(HOOKS) == len(HOOKS_BY_NAME)
    # A setting that becomes ours leaves gunicorn's table.
    assert all(name in BY_FILE_NAME or name in BY_NAME for name in SHARED)
    assert not [name for name in FOREIGN_BY_NAME if name in BY_FILE_NAME]


def test_the_list_is_that_of_the_gunicorn_installed() -> None:
    """Names and flags; a new release may bring more."""
    config = pytest.importorskip("gunicorn.config")
    assert {s.name: s.cli or [] for s in config.KNOWN_SETTINGS} == LISTED


def test_gunicorns_defaults_ask_for_nothing() -> None:
    """A file that spells them out is not warned of."""
    config = pytest.importorskip("gunicorn.config")
    defaults = {setting.name: setting().get() for setting in config.KNOWN_SETTINGS}
    for foreign in FOREIGN:
        default: Any = defaults[foreign.name]
        if not callable(default) and foreign.name != "control_socket":
            assert foreign.asks_for_nothing(default), foreign.name


@pytest.mark.parametrize("where", ["command line", "GUNICORN_CMD_ARGS"])
@pytest.mark.parametrize("name", [name for name in LISTED if LISTED[name]])
def test_every_flag_is_taken(name: str, where: str) -> None:
    """By the command line and by the variable; without effect means one line that says so."""
    for flag in LISTED[name]:
        words = [flag] if takes_nothing(flag) else [flag, VALUES.get(flag, "7")]
        if flag in ("--keyfile", "--cert-reqs"):
            words += ["--certfile", "c.pem"]
        if where == "command line":
            loaded = load(["a:b", *words], {}, HERE)
        else:
            loaded = load(["a:b"], {where: " ".join(words)}, HERE)
        if name in SHARED:
            assert loaded.warnings == ()
        else:
            foreign = FOREIGN_BY_NAME[name]
            value = True if takes_nothing(flag) else "7"
            expected = () if foreign.asks_for_nothing(value) else (
                f"{name}: {foreign.advice} (set by {flag}"
                + (", command line)" if where == "command line" else f" in {where})"),
            )  # fmt: skip
            assert loaded.warnings == expected


def from_file(folder: Path, text: str) -> Loaded:
    """Load a gunicorn.conf.py of this text."""
    (folder / "gunicorn.conf.py").write_text(text)
    return load(["a:b"], {}, str(folder))


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda foreign: foreign.name)
def test_every_name_in_a_file_is_taken_with_one_line(foreign: Foreign, tmp_path: Path) -> None:
    """The line names the setting, the place and what to do; hooks see the value."""
    loaded = from_file(tmp_path, f"{foreign.name} = 'something'")
    assert loaded.warnings == (f"{foreign.name}: {foreign.advice} (set by gunicorn.conf.py:1)",)
    assert "(set by" not in foreign.advice
    assert foreign.advice[0].islower() or foreign.advice.startswith(("TLS", "PROXY"))
    assert getattr(Cfg(loaded.settings), foreign.name) == "something"
    assert getattr(Cfg(from_file(tmp_path, "").settings), foreign.name) == foreign.default


def test_what_is_so_anyway_says_nothing(tmp_path: Path) -> None:
    """Values that change nothing, as published files spell them."""
    loaded = from_file(
        tmp_path,
        "daemon = False\nkeyfile = None\nstatsd_host = ''\ninitgroups = True\ndirty_apps = []\n"
        "proxy_protocol = False\nproxy_allow_ips = ['127.0.0.1', '::1']\nprotocol = 'http'\n"
        "control_socket_disable = True\nlogger_class = 'gunicorn.glogging.Logger'\n"
        "enable_stdio_inheritance = True\nspew = False\nworker_tmp_dir = None\n",
    )
    assert loaded.warnings == ()


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.name)
def test_hooks_are_checked_when_the_file_is_read(hook: Any, tmp_path: Path) -> None:
    """The number of parameters, as gunicorn does; a text names a function; None is none."""
    names = ", ".join(hook.parameters)
    loaded = from_file(tmp_path, f"def {hook.name}({names}): return ({names},)")
    made = loaded.settings.hooks[hook.name]
    assert made(*hook.parameters) == hook.parameters
    assert getattr(Cfg(loaded.settings), hook.name) is made
    assert loaded.warnings == ()
    assert from_file(tmp_path, f"{hook.name} = None").settings.hooks == {}
    assert from_file(tmp_path, f"{hook.name} = 'os.path.join'").settings.hooks
    for text, words in (
        (f"def {hook.name}(): pass", "it takes (), and is called with ("),
        (f"{hook.name} = 3", "3 cannot be called"),
        (f"{hook.name} = 'os.nothing'", "'os.nothing' cannot be imported"),
    ):
        with pytest.raises(ConfigError) as caught:
            from_file(tmp_path, text)
        assert f"{hook.name}: {words}" in str(caught.value)
        assert "(set by gunicorn.conf.py:1)" in str(caught.value)


def test_post_request_may_take_fewer_arguments(tmp_path: Path) -> None:
    """Gunicorn calls it with what it takes: two, three or four."""
    for count in (2, 3, 4):
        names = ", ".join(("worker", "req", "environ", "resp")[:count])
        text = f"def post_request({names}): return [{names}]"
        hook = from_file(tmp_path, text).settings.hooks["post_request"]
        assert hook(1, 2, 3, 4) == [1, 2, 3, 4][:count]


def test_cfg_has_what_hooks_read(tmp_path: Path) -> None:
    """Gunicorn's names, and its kinds of values."""
    loaded = from_file(
        tmp_path,
        "bind = ['127.0.0.1:80', 'unix:/run/a.sock', 'fd://3']\nraw_env = ['A=b=c']\n"
        "timeout = 7\nkeepalive = 2.5\nwsgi_app = 'c:d'\n",
    )
    cfg = Cfg(loaded.settings)
    assert cfg.address == [("127.0.0.1", 80), "/run/a.sock", 3]
    assert cfg.bind == ["127.0.0.1:80", "unix:/run/a.sock", "fd://3"]
    assert cfg.env == {"A": "b=c"}
    assert (cfg.timeout, cfg.keepalive, cfg.wsgi_app) == (7, 2.5, "a:b")
    assert type(cfg.timeout) is int
    assert (cfg.is_ssl, cfg.worker_class_str, cfg.preload_app) == (False, "gthread", False)
    with pytest.raises(AttributeError, match="there is no setting 'nothing'"):
        _ = cfg.nothing


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("worker_class = 'tornado'", "there is no worker class 'tornado' here; leave worker_class"),
        ("worker_class = 'uvicorn.workers.UvicornWorker'", "serves ASGI and this server WSGI"),
        ("class W: pass\nworker_class = W", "there is no worker class 'W' here"),
        ("logconfig_dict = 'x'", "logconfig_dict: a value of type str is not a dictionary"),
        ("syslog_addr = 'somewhere'", "'somewhere' is not an address of syslog"),
        ("syslog_facility = 'local9'", "'local9' is not a facility"),
        ("paste = '/not/there.ini'", "paste: /not/there.ini: No such file or directory"),
        ("raw_paste_global_conf = ['x']", "it is not NAME=VALUE"),
        ("logconfig_dict = {'a': 1}\naccess_log_format = 'json'", "access_log_format: json (set"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    """With what to do instead."""
    with pytest.raises(ConfigError) as caught:
        from_file(tmp_path, text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_development_switches_are_warned_of(tmp_path: Path) -> None:
    """Tracebacks for everybody; reload and preload together."""
    loaded = from_file(tmp_path, "debug_errors = True\nreload = True\npreload_app = True\n")
    assert not loaded.settings.preload_app
    assert [warning.split(":")[0] for warning in loaded.warnings] == ["debug_errors", "preload_app"]


def test_a_module_may_be_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """python:MODULE, executed anew at each load, with imports from its own package."""
    package = tmp_path / "conf_package_for_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text("threads = 3\n")
    (package / "prod.py").write_text("from .base import *\nworkers = 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    named = "python:conf_package_for_test.prod"
    loaded = load(["a:b", "-c", named], {}, HERE)
    assert (loaded.settings.workers, loaded.settings.threads) == (2, 3)
    assert loaded.settings.config == named
    (package / "prod.py").write_text("workers = 55\n")
    assert load(["a:b", "-c", named], {}, HERE).settings.workers == 55
    for wrong, words in (("python:not_there", "no such module"), ("python:sys", "in Python")):
        with pytest.raises(ConfigError, match=words):
            load(["a:b", "-c", wrong], {}, HERE)
    with pytest.raises(ConfigError, match="ModuleNotFoundError"):
        load(["a:b", "-c", "python:not_there.at_all"], {}, HERE)
