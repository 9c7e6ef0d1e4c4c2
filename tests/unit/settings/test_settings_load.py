"""Loading settings: who wins, what each source may say, and how a wrong value is reported."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gthreadsrv.errors import ConfigError
from gthreadsrv.settings import Loaded, Origin, Settings, Source, load
from gthreadsrv.settings.model import WorkerRange
from gthreadsrv.settings.table import TABLE

HERE = str(Path(__file__).parent)


def settings(*argv: str, cwd: str = HERE, **environ: str) -> Settings:
    """The settings from a command line with an application, and an environment."""
    return load(["shop.wsgi:app", *argv], environ, cwd).settings


def refusal(*argv: str, cwd: str = HERE, **environ: str) -> str:
    """The one line for a command line that is refused."""
    with pytest.raises(ConfigError) as caught:
        settings(*argv, cwd=cwd, **environ)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder to start in."""
    return tmp_path


def test_without_anything_but_an_application_all_values_are_defaults() -> None:
    """The defaults are those of the dataclass, and each says that it is one."""
    loaded = load(["shop.wsgi:app"], {}, HERE)
    assert loaded.settings == Settings(app="shop.wsgi:app", chdir=HERE)
    assert loaded.origins.pop("app") == Origin(Source.COMMAND_LINE, "APP")
    assert {origin.source for origin in loaded.origins.values()} == {Source.DEFAULT}
    assert loaded.warnings == ()
    assert loaded.app == "shop.wsgi:app"


def test_settings_can_be_pickled_and_not_changed() -> None:
    """Settings cross processes and threads, so they are values."""
    made = settings("-b", "unix:/run/x.sock")
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(AttributeError):
        made.workers = 3  # type: ignore[misc]
    assert not hasattr(made, "__dict__")


FLAGS = [
    (["-b", "0.0.0.0:80", "--bind", "unix:/run/a.sock", "--bind=fd://3"],
     {"bind": ("0.0.0.0:80", "unix:/run/a.sock", "fd://3")}),
    (["-b", "[::1]:80"], {"bind": ("[::1]:80",)}),
    (["--backlog", "64"], {"backlog": 64}),
    (["-w", "3", "--threads", "5"], {"workers": 3, "threads": 5}),
    (["-w", "auto"], {"workers": 0}),
    (["-k", "gthread"], {"worker_class": "gthread"}),
    (["-k", "sync"], {"worker_class": "sync", "threads": 1}),
    (["-k", "gevent"], {"worker_class": "gevent", "threads": 1000}),
    (["-k", "eventlet", "--worker-connections", "50"], {"worker_class": "eventlet", "threads": 50}),
    (["-k", "gevent", "--threads", "20"], {"worker_class": "gevent", "threads": 20}),
    (["--worker-connections", "50"], {"worker_connections": 50}),
    (["--keep-alive", "0.5", "-t", "7", "--graceful-timeout", "8"],
     {"keepalive": 0.5, "timeout": 7.0, "graceful_timeout": 8.0}),
    (["--header-timeout", "1", "--body-timeout", "2", "--write-timeout", "3",
      "--boot-timeout", "4", "--drain-delay", "5"],
     {"header_timeout": 1.0, "body_timeout": 2.0, "write_timeout": 3.0, "boot_timeout": 4.0,
      "drain_delay": 5.0}),
    (["--max-requests", "10", "--max-requests-jitter", "2"],
     {"max_requests": 10, "max_requests_jitter": 2}),
    (["--workers", "2:8", "--scale-down-after", "30"],
     {"workers": WorkerRange(2, 8), "scale_down_after": 30.0}),
    (["--workers", "4:4"], {"workers": 4}),
    (["--max-lifetime", "3600", "--max-rss", "300M"],
     {"max_lifetime": 3600.0, "max_rss": 300 << 20}),
    (["--max-rss", "1.5GiB"], {"max_rss": 3 << 29}),
    (["--max-rss", "1000000"], {"max_rss": 1_000_000}),
    (["--max-rss", "64kb"], {"max_rss": 64 << 10}),
    (["--preload"], {"preload_app": True}),
    (["-e", "A=1", "--env", "B=x=y, z"], {"raw_env": ("A=1", "B=x=y, z")}),
    (["-u", "root", "-g", "0", "-m", "027"], {"user": "root", "group": "0", "umask": 0o27}),
    (["-p", "/run/x.pid", "-n", "shop"], {"pidfile": "/run/x.pid", "proc_name": "shop"}),
    (["--limit-request-line", "4094", "--limit-request-fields", "7",
      "--limit-request-field_size", "99", "--limit-request-body", "5"],
     {"limit_request_line": 4094, "limit_request_fields": 7, "limit_request_field_size": 99,
      "limit_request_body": 5}),
    (["--limit-request-field-size", "99"], {"limit_request_field_size": 99}),
    (["--limit-request-line", "0", "--limit-request-fields", "0"],
     {"limit_request_line": 1 << 20, "limit_request_fields": 32768}),
    (["--log-level", "DEBUG", "--log-format", "json", "--access-logfile", "-"],
     {"loglevel": "debug", "log_format": "json", "accesslog": "-"}),
    (["--error-logfile", "/var/log/x"], {"errorlog": "/var/log/x"}),
    (["--log-file", "/var/log/y"], {"errorlog": "/var/log/y"}),
    (["--access-logformat", "%(h)s\t%(s)s"], {"access_log_format": "%(h)s\t%(s)s"}),
    (["--http-parser", "h11"], {"http_parser": "h11"}),
    (["--header-map", "refuse"], {"header_map": "refuse"}),
    (["--forwarded-allow-ips", "10.0.0.0/8, ::1"], {"forwarded_allow_ips": ("10.0.0.0/8", "::1")}),
    (["--forwarded-allow-ips", "*"], {"forwarded_allow_ips": ("*",)}),
    (["--forwarded-client", "X-Forwarded-For"], {"forwarded_client": "x-forwarded-for"}),
    (["--forwarder-headers", "script_name,REMOTE_USER"],
     {"forwarder_headers": ("SCRIPT_NAME", "REMOTE_USER")}),
    (["--proxy-protocol", "v2", "--proxy-allow-from", "10.0.0.0/8"],
     {"proxy_protocol": "v2", "proxy_allow_ips": ("10.0.0.0/8",)}),
    (["--proxy-protocol=true", "--proxy-allow-ips", "*"],
     {"proxy_protocol": "auto", "proxy_allow_ips": ("*",)}),
    (["--proxy-protocol"], {"proxy_protocol": "auto"}),
    (["--proxy-protocol", "--threads", "5"], {"proxy_protocol": "auto", "threads": 5}),
    (["--proxy-protocol", "off"], {"proxy_protocol": "off"}),
    (["--metrics-bind", "off"], {"metrics_bind": "off"}),
    (["--metrics-bind", ":9999", "--metrics-path", "/metrics"],
     {"metrics_bind": "0.0.0.0:9999", "metrics_path": "/metrics"}),
    (["--ready-max-saturation", "0.9"], {"ready_max_saturation": 0.9}),
    (["--certfile", "/c.pem", "--keyfile", "/k.pem", "--ca-certs", "/a.pem", "--cert-reqs", "2",
      "--ciphers", "ECDHE+AESGCM", "--tls-minimum", "TLSv1.3"],
     {"certfile": "/c.pem", "keyfile": "/k.pem", "ca_certs": "/a.pem", "cert_reqs": 2,
      "ciphers": "ECDHE+AESGCM", "tls_minimum": "1.3"}),
    (["--no-sendfile"], {"sendfile": False}),
    (["--http-parser", "python"], {"http_parser": "h11"}),
    (["-k", "gunicorn.workers.gthread.ThreadWorker"], {"worker_class": "gthread"}),
    (["-k", "gunicorn.workers.ggevent.GeventWorker"], {"worker_class": "gevent"}),
    (["-k", "gunicorn.workers.geventlet.EventletWorker"], {"worker_class": "eventlet"}),
    (["-k", "gevent_wsgi"], {"worker_class": "gevent"}),
    (["-k", "gunicorn.workers.ggevent.GeventPyWSGIWorker"], {"worker_class": "gevent"}),
    (["--paste-global", "a.b=1", "--paste-global", "c=2"],
     {"raw_paste_global_conf": ("a.b=1", "c=2")}),
    (["--capture-output"], {"capture_output": True}),
    (["--log-config", "/x.ini", "--log-config-json", "/x.json"],
     {"logconfig": "/x.ini", "logconfig_json": "/x.json"}),
    (["--log-syslog", "--log-syslog-to", "tcp://logs:601", "--log-syslog-prefix", "shop",
      "--log-syslog-facility", "LOCAL3", "--disable-redirect-access-to-syslog"],
     {"syslog": True, "syslog_addr": "tcp://logs:601", "syslog_prefix": "shop",
      "syslog_facility": "local3", "disable_redirect_access_to_syslog": True}),
    (["--reload", "--reload-engine", "poll", "--reload-extra-file", "/a", "--reload-extra-file",
      "/b/*.html"],
     {"reload": True, "reload_engine": "poll", "reload_extra_files": ("/a", "/b/*.html")}),
    (["--debug-errors"], {"debug_errors": True}),
    (["--check-config", "--print-config"], {"check_config": True, "print_config": True}),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "expected"), FLAGS, ids=lambda value: str(value)[:40])
def test_every_flag_sets_its_setting(argv: list[str], expected: dict[str, object]) -> None:
    """Flags are gunicorn's names, and land in the typed record."""
    made = settings(*argv)
    assert {name: getattr(made, name) for name in expected} == expected


def test_the_flags_above_are_all_there_are_but_those_with_tests_of_their_own() -> None:
    """A new flag comes with a test."""
    tested = {word.partition("=")[0] for argv, _ in FLAGS for word in argv}
    elsewhere = {"--chdir", "--pythonpath", "-c", "--config", "--workers", "--worker-class",
                 "--timeout", "--user", "--group", "--umask", "--pid", "--name",
                 "--paste", "--paster"}  # fmt: skip
    assert {flag for setting in TABLE for flag in setting.flags} - tested <= elsewhere


def test_a_flag_that_may_stand_alone_does_not_take_the_application() -> None:
    """`--proxy-protocol app:app` names an application, wherever the words come from."""
    made = load(["--proxy-protocol", "shop.wsgi:app"], {}, HERE).settings
    assert (made.proxy_protocol, made.app) == ("auto", "shop.wsgi:app")
    made = load([], {"GTHREADSRV_CMD_ARGS": "--proxy-protocol v1 shop:app"}, HERE).settings
    assert (made.proxy_protocol, made.app) == ("v1", "shop:app")


SOURCES = ("environment", "file", "cmd_args", "command_line")


@given(st.sets(st.sampled_from(SOURCES)), st.sets(st.sampled_from(SOURCES)))
def test_the_strongest_source_wins_for_each_setting_alone(
    tmp_path_factory: pytest.TempPathFactory, threads: set[str], timeout: set[str]
) -> None:
    """Command line over GTHREADSRV_CMD_ARGS over file over variable over default."""
    folder = tmp_path_factory.mktemp("p")
    number = {source: rank for rank, source in enumerate(SOURCES, start=11)}
    environ = {}
    if "environment" in threads:
        environ["GTHREADSRV_THREADS"] = str(number["environment"])
    if "environment" in timeout:
        environ["GTHREADSRV_TIMEOUT"] = str(number["environment"])
    lines = [f"threads = {number['file']}"] * ("file" in threads)
    lines += [f"timeout = {number['file']}"] * ("file" in timeout)
    (folder / "gthreadsrv.conf.py").write_text("\n".join(lines))
    words = [f"--threads={number['cmd_args']}"] * ("cmd_args" in threads)
    words += [f"-t {number['cmd_args']}"] * ("cmd_args" in timeout)
    environ["GTHREADSRV_CMD_ARGS"] = " ".join(words)
    argv = [f"--threads={number['command_line']}"] * ("command_line" in threads)
    argv += [f"-t{number['command_line']}"] * ("command_line" in timeout)

    loaded = load(["a:b", *argv], environ, str(folder))
    assert loaded.settings.threads == max((number[s] for s in threads), default=0)
    assert loaded.settings.timeout == max((number[s] for s in timeout), default=30)
    strongest = max(threads, key=SOURCES.index, default="default")
    assert loaded.origins["threads"].source.name.lower() == strongest


@pytest.mark.parametrize("flag", ["--forwarded-allow-ips", "--proxy-allow-from"])
def test_an_empty_list_of_addresses_is_nobody(flag: str) -> None:
    """As with gunicorn; the default of loopback would be somebody."""
    settings = load([flag, "", "a:b"], {}, "/").settings
    assert (settings.forwarded_allow_ips, settings.proxy_allow_ips).count(()) == 1


def test_an_empty_variable_counts_as_unset() -> None:
    """Orchestrators set variables to nothing where others have a value."""
    names = [s.variable for s in TABLE if s.in_environment]
    names += ["WEB_CONCURRENCY", "PORT", "FORWARDED_ALLOW_IPS", "GTHREADSRV_CMD_ARGS"]
    assert settings(**dict.fromkeys(names, "")) == settings()


def test_web_concurrency_and_port_count_below_our_own_variables() -> None:
    """A platform's variables are the weakest word but the default."""
    platform = {"WEB_CONCURRENCY": "4", "PORT": "5000"}
    made = settings(**platform)
    assert (made.workers, made.bind) == (4, ("0.0.0.0:5000",))
    made = settings(**platform, GTHREADSRV_WORKERS="2", GTHREADSRV_BIND="[::1]:1,unix:/x")
    assert (made.workers, made.bind) == (2, ("[::1]:1", "unix:/x"))


def test_every_setting_has_a_variable_unless_it_is_an_action() -> None:
    """GTHREADSRV_<NAME>, whatever the type."""
    made = settings(
        GTHREADSRV_PRELOAD_APP="yes",
        GTHREADSRV_RAW_ENV="A=1 'B=two words'",
        GTHREADSRV_KEEPALIVE="5",
        GTHREADSRV_UMASK="77",
        GTHREADSRV_CHECK_CONFIG="1",
    )
    assert made.preload_app
    assert made.raw_env == ("A=1", "B=two words")
    assert made.keepalive == 5
    assert made.umask == 0o77
    assert not made.check_config


def test_the_application_may_come_from_any_source(project: Path) -> None:
    """Argument, GTHREADSRV_CMD_ARGS, wsgi_app in the file, GTHREADSRV_APP."""
    cwd = str(project)
    assert load([], {"GTHREADSRV_APP": "a:env"}, cwd).settings.app == "a:env"
    (project / "gthreadsrv.conf.py").write_text("wsgi_app = 'a:file'")
    assert load([], {"GTHREADSRV_APP": "a:env"}, cwd).settings.app == "a:file"
    assert load([], {"GTHREADSRV_CMD_ARGS": "a:args"}, cwd).settings.app == "a:args"
    assert load(["a:line"], {"GTHREADSRV_CMD_ARGS": "a:args"}, cwd).settings.app == "a:line"


def test_no_application_is_an_error_except_to_print_the_settings(project: Path) -> None:
    """There is nothing to serve, but something to show."""
    with pytest.raises(ConfigError, match="no application was named"):
        load([], {}, str(project))
    assert load(["--print-config"], {}, str(project)).settings.app == ""


REFUSED = [
    (["-w", "0"], "workers: 0 is out of range (set by -w, command line); allowed: "),
    (["--workers", "two"], "workers: 'two' is not a whole number (set by --workers, command"),
    (["-w", "1_0"], "'1_0' is not a whole number"),
    (["-w", "1.5"], "'1.5' is not a whole number"),
    (["-w", "8:2"], "workers: '8:2' has the larger number first"),
    (["-w", "0:2"], "workers: 0 is out of range"),
    (["-w", "2:"], "'' is not a whole number"),
    (["--scale-down-after", "0.5"], "scale_down_after: '0.5' is out of range"),
    (["--max-rss", "300X"], "max_rss: '300X' is not a number of bytes"),
    (["--max-rss", "-1"], "'-1' is not a number of bytes"),
    (["--threads="], "'' is not a whole number"),
    (["-t", "soon"], "timeout: 'soon' is not a number of seconds"),
    (["-t", "-1"], "timeout: '-1' is out of range"),
    (["-t", "nan"], "timeout: 'nan' is out of range"),
    (["-b", "host:http"], "bind: 'http' is not a port"),
    (["--metrics-bind", "nowhere:x"], "metrics_bind: 'x' is not a port"),
    (["--metrics-path", "metrics"], "metrics_path: 'metrics' is not a plain path"),
    (["--metrics-path", "//x"], "'//x' is not a plain path"),
    (["--metrics-path", "/\xe9"], "is not a plain path"),
    (["--ready-max-saturation", "0"], "ready_max_saturation: '0' is not a share"),
    (["--ready-max-saturation", "1.1"], "allowed: a number above 0, 1 at most"),
    (
        ["-k", "tornado"],
        "worker_class: there is no worker class 'tornado' here; leave",
    ),
    (["--http-parser", "slow"], "allowed: auto, h11 or httptools"),
    (["--log-level", "loud"], "allowed: debug, info, warning, error or critical"),
    (["-m", "9"], "umask: '9' is not an octal number"),
    (["-u", "nobody-here"], "user: there is no user 'nobody-here' here"),
    (["-g", "nobody-here"], "group: there is no group 'nobody-here' here"),
    (["--chdir", "/not/there"], "chdir: '/not/there' is not a directory (set by --chdir"),
    (["--forwarded-allow-ips", "10.0.0.0/99"], "'10.0.0.0/99' is not an IP address or network"),
    (["-p", ""], "pidfile: it is empty"),
    (["--keyfile", "k"], "keyfile: there is no TLS without --certfile (set by --keyfile"),
    (["--cert-reqs", "2"], "cert_reqs: there is no TLS without --certfile (set by --cert-reqs"),
    (["--cert-reqs", "3"], "allowed: 0, 1 or 2"),
    (["--tls-minimum", "1.1"], "tls_minimum: '1.1' is not one of them"),
    (["--access-logformat", "a\nb"], "is not one line of text"),
    (["--limit-request-line", "9999999"], "allowed: a whole number from 0 to 1048576"),
    (["--worker", "3"], "--worker: there is no such option (on the command line); did you mean"),
    (["--threads"], "--threads: expected one argument (on the command line)"),
    (["--preload=yes"], "--preload: ignored explicit argument 'yes'"),
    (["other:app"], "'other:app': one application is enough"),
    (["-c", "missing.py"], "config: cannot read missing.py: No such file or directory (set by -c,"),
]


@pytest.mark.parametrize(("argv", "line"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_wrong_value_gets_one_line(argv: list[str], line: str) -> None:
    """The line names the setting, where it was set, and what is allowed."""
    assert line in refusal(*argv)


def test_a_refusal_names_the_place_in_every_source(project: Path) -> None:
    """People look for the mistake where the line sends them."""
    cwd = str(project)
    assert "(set by -w in GTHREADSRV_CMD_ARGS)" in refusal(GTHREADSRV_CMD_ARGS="-w x")
    assert "(set by GTHREADSRV_WORKERS, environment)" in refusal(GTHREADSRV_WORKERS="x")
    assert "(set by WEB_CONCURRENCY, environment)" in refusal(WEB_CONCURRENCY="x")
    assert "(set by PORT, environment)" in refusal(PORT="x")
    assert "(in GTHREADSRV_CMD_ARGS)" in refusal(GTHREADSRV_CMD_ARGS="--nope")
    assert refusal(GTHREADSRV_CMD_ARGS="-n 'x").startswith("GTHREADSRV_CMD_ARGS: No closing")
    assert refusal(GTHREADSRV_RAW_ENV="'x").startswith("raw_env: No closing")
    (project / "gthreadsrv.conf.py").write_text("\n\nworkers = 'x'\n")
    assert "(set by gthreadsrv.conf.py:3)" in refusal(cwd=cwd)
    assert "workers: 'x'" in refusal(cwd=cwd)


def test_a_refused_variable_does_not_show_what_may_be_a_secret() -> None:
    """The command line's -e carries passwords."""
    assert "hunter2" not in refusal("-e", "hunter2")
    assert "hunter2" not in refusal("-e", "A B=hunter2")


def test_sync_is_one_thread_but_more_threads_that_were_asked_for_win() -> None:
    """As with gunicorn, `-k sync --threads 4` serves with four threads; here with a word."""
    loaded = load(["a:b", "-k", "sync", "--threads", "4"], {}, HERE)
    assert (loaded.settings.worker_class, loaded.settings.threads) == ("gthread", 4)
    assert "serving as gthread" in loaded.warnings[0]
    assert load(["a:b", "-k", "sync", "--threads", "1"], {}, HERE).warnings == ()


def test_paths_become_absolute_from_the_directory_that_is_changed_to(project: Path) -> None:
    """Reopening a log later must not depend on where the application went."""
    (project / "src").mkdir()
    made = settings(
        "--chdir", "src", "-p", "x.pid", "--log-file", "e.log", "--access-logfile", "a.log",
        "--pythonpath", "lib,/opt/lib", cwd=str(project),
    )  # fmt: skip
    src = str(project / "src")
    assert made.chdir == src
    assert (made.pidfile, made.errorlog) == (f"{src}/x.pid", f"{src}/e.log")
    assert made.accesslog == f"{src}/a.log"
    assert made.pythonpath == (f"{src}/lib", "/opt/lib")


def test_a_misspelt_variable_is_warned_of_but_a_service_link_is_not() -> None:
    """Kubernetes sets GTHREADSRV_PORT and more for a service of that name."""
    environ = {
        "GTHREADSRV_TREADS": "4",
        "GTHREADSRV_PORT": "tcp://10.0.0.1:80",
        "GTHREADSRV_SERVICE_HOST": "10.0.0.1",
        "GTHREADSRV_PORT_8000_TCP_ADDR": "10.0.0.1",
    }
    warnings = load(["a:b"], environ, HERE).warnings
    assert len(warnings) == 1
    assert "GTHREADSRV_TREADS" in warnings[0]
    assert "GTHREADSRV_THREADS" in warnings[0]


def test_loading_again_reads_the_file_again_and_changes_nothing_else(project: Path) -> None:
    """A reload is another load with the same arguments."""
    conf = project / "gthreadsrv.conf.py"
    before = dict(os.environ)

    def again() -> Loaded:
        return load(["a:b"], {}, str(project))

    conf.write_text("workers = 2")
    assert again().settings.workers == 2
    conf.write_text("workers = 3")
    assert again().settings.workers == 3
    conf.write_text("workers = ")
    with pytest.raises(ConfigError):
        again()
    conf.unlink()
    assert again().settings.workers == 0
    assert dict(os.environ) == before


def test_threads_that_gunicorn_would_not_look_at_are_said(project: Path) -> None:
    """With gevent it has worker_connections greenlets; four of them are another server."""
    file = project / "gunicorn.conf.py"
    file.write_text("worker_class = 'gevent'\nthreads = 4\n")
    [line] = load(["a:b"], {}, str(project)).warnings
    assert line.startswith("threads: 4 (set by gunicorn.conf.py:2) greenlets in each worker")
    assert "leave it out for the 1000 of worker_connections" in line
    environ = {"GUNICORN_CMD_ARGS": "--threads 5"}
    assert "threads: 5" in load(["a:b"], environ, str(project)).warnings[0]
    # Who has said so to this server means it.
    assert load(["a:b", "--threads", "6"], {}, str(project)).warnings == ()
    file.write_text("worker_class = 'gevent'\nthreads = 4\nworker_connections = 4\n")
    assert load(["a:b"], {}, str(project)).warnings == ()
    file.write_text("worker_class = 'gthread'\nthreads = 4\n")
    assert load(["a:b"], {}, str(project)).warnings == ()


def test_a_mount_that_is_no_path_is_said() -> None:
    """Shell scripts keep their own name in SCRIPT_NAME; gunicorn would answer nothing but 500."""
    for words, environ, warned in (
        ([], {"SCRIPT_NAME": "start.sh"}, True),
        (["-e", "SCRIPT_NAME=shop"], {}, True),
        (["-e", "SCRIPT_NAME=/shop"], {"SCRIPT_NAME": "start.sh"}, False),
        ([], {"SCRIPT_NAME": "/shop"}, False),
        ([], {"SCRIPT_NAME": ""}, False),
    ):
        warnings = load(["a:b", *words], environ, HERE).warnings
        assert [line.partition(":")[0] for line in warnings] == ["SCRIPT_NAME"] * warned


def test_what_a_gunicorn_file_says_of_tls_is_understood(project: Path) -> None:
    """Constants of ssl are numbers; what has no effect here is said once each."""
    (project / "gthreadsrv.conf.py").write_text(
        "import ssl\n"
        "certfile = 'c.pem'\n"
        "cert_reqs = ssl.CERT_REQUIRED\n"
        "ssl_version = ssl.PROTOCOL_TLS_SERVER\n"
        "suppress_ragged_eofs = False\n"
        "do_handshake_on_connect = True\n"
        "tls_minimum = 1.3\n"
        "def ssl_context(conf, default_ssl_context_factory):\n"
        "    return default_ssl_context_factory()\n"
    )
    loaded = load(["a:b"], {}, str(project))
    made = loaded.settings
    assert (made.certfile, made.cert_reqs, made.tls_minimum) == (f"{project}/c.pem", 2, "1.3")
    assert type(made.cert_reqs) is int
    assert made.is_ssl
    assert callable(made.ssl_context)
    names = [line.partition(":")[0] for line in loaded.warnings]
    assert names == ["ssl_version", "suppress_ragged_eofs", "do_handshake_on_connect"]
    assert all(" (set by gthreadsrv.conf.py:" in line for line in loaded.warnings)


def test_a_hook_alone_means_tls_and_must_be_a_function(project: Path) -> None:
    """It may load a certificate from anywhere."""
    file = project / "gthreadsrv.conf.py"
    file.write_text("def ssl_context(conf, factory): ...")
    assert load(["a:b"], {}, str(project)).settings.is_ssl
    file.write_text("ssl_context = 5")
    with pytest.raises(ConfigError, match="ssl_context: 5 is not a function"):
        load(["a:b"], {}, str(project))
