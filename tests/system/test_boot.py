"""Starting: the command line, what goes wrong and how it is said, where the server listens."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

import gthreadsrv
from tests.system.conftest import Servers
from tests.system.harness import (
    APPS,
    Server,
    process_alive,
    read_record,
    run_cli,
    title,
    wait_until,
)


def who(server: Server) -> dict[str, Any]:
    """What the application sees of its process."""
    found = json.loads(server.get("/who").body)
    assert isinstance(found, dict)
    return found


def one_line(text: str) -> str:
    """The last line, which must carry no traceback above it."""
    assert "Traceback" not in text, text
    lines = text.strip().splitlines()
    assert lines, "nothing was said"
    return lines[-1]


def test_version(tmp_path: Path) -> None:
    """--version prints name and version, and nothing else."""
    result = run_cli("--version", cwd=tmp_path)

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == ["gthreadsrv", gthreadsrv.__version__]


def test_help_names_the_settings(tmp_path: Path) -> None:
    """--help lists the flags on standard output."""
    result = run_cli("--help", cwd=tmp_path)

    assert result.returncode == 0
    for flag in ("--bind", "--workers", "--threads", "--metrics-bind", "--graceful-timeout"):
        assert flag in result.stdout


@pytest.mark.parametrize(
    ("args", "needle"),
    [
        (("--workers", "many", "gthreadsrv.demo:app"), "--workers"),
        (("--no-such-flag", "gthreadsrv.demo:app"), "--no-such-flag"),
        (("--bind", "unix:", "gthreadsrv.demo:app"), "--bind"),
        (("--worker-class", "gevents", "gthreadsrv.demo:app"), "--worker-class"),
        ((), "MODULE:CALLABLE"),
    ],
)
def test_wrong_value_is_one_line_and_exit_code_2(
    tmp_path: Path, args: tuple[str, ...], needle: str
) -> None:
    """A wrong setting is named together with what is allowed, without a traceback."""
    result = run_cli(*args, cwd=tmp_path)

    assert result.returncode == 2
    assert needle in one_line(result.stderr)
    assert result.stdout == ""


def test_wrong_value_tells_where_it_was_set(tmp_path: Path) -> None:
    """The message names the variable or the file that holds the wrong value."""
    by_variable = run_cli("gthreadsrv.demo:app", cwd=tmp_path, env={"GTHREADSRV_THREADS": "none"})
    (tmp_path / "gthreadsrv.conf.py").write_text("timeout = 'long'\n")
    by_file = run_cli("gthreadsrv.demo:app", cwd=tmp_path)

    assert (by_variable.returncode, by_file.returncode) == (2, 2)
    assert "GTHREADSRV_THREADS" in one_line(by_variable.stderr)
    assert "gthreadsrv.conf.py" in one_line(by_file.stderr)


def test_port_in_use_is_one_line(serve: Servers) -> None:
    """A second server on the same port says so and leaves."""
    server = serve("behaviours:app")
    port = server.address.rpartition(":")[2]
    result = run_cli(
        "--bind", f"127.0.0.1:{port}", "--metrics-bind", "off", "gthreadsrv.demo:app",
        cwd=serve.folder,
    )  # fmt: skip

    assert result.returncode not in (0, 3)
    assert port in one_line(result.stderr)
    assert server.get("/hello").body == b"hello\n"


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize(
    ("app", "needles"),
    [
        ("no_such_module:app", ["no_such_module"]),
        ("broken_import:app", ["module_that_is_missing"]),
        ("broken_code:app", ["ZeroDivisionError"]),
        ("behaviours:no_such_name", ["no_such_name"]),
        ("behaviours:TEXT", ["TEXT"]),
    ],
)
def test_application_that_cannot_be_loaded_exits_3(
    serve: Servers, app: str, needles: list[str], preload: bool
) -> None:
    """Why is in the log, the exit code is 3, and no process stays."""
    server = serve(app, *(["--preload"] if preload else []), workers=2, allow_errors=True)

    assert server.wait_exit() == 3
    for needle in needles:
        assert needle in server.report()


def test_missing_module_is_told_from_a_missing_import(tmp_path: Path) -> None:
    """For a module that is not there no traceback is shown; for one that fails it is."""
    path = ("--pythonpath", str(APPS), "--check-config", "--metrics-bind", "off")
    missing = run_cli(*path, "no_such_module:app", cwd=tmp_path)
    broken = run_cli(*path, "broken_import:app", cwd=tmp_path)

    assert (missing.returncode, broken.returncode) == (3, 3)
    assert "Traceback" not in missing.stderr
    assert "no_such_module" in missing.stderr
    assert "broken_import.py" in broken.stderr


def test_check_config_loads_the_application_and_leaves(tmp_path: Path) -> None:
    """--check-config says yes by exit code 0 and starts nothing."""
    result = run_cli("--pythonpath", str(APPS), "--check-config", "behaviours:app", cwd=tmp_path)

    assert result.returncode == 0, result.stderr


def test_print_config_shows_where_values_come_from(tmp_path: Path) -> None:
    """Each value is shown with its origin; the command line wins over file and environment."""
    (tmp_path / "gthreadsrv.conf.py").write_text("threads = 3\nkeepalive = 5\n")
    result = run_cli(
        "--print-config", "--threads", "7", "gthreadsrv.demo:app", cwd=tmp_path,
        env={"GTHREADSRV_TIMEOUT": "9", "GTHREADSRV_CMD_ARGS": "--backlog 77"},
    )  # fmt: skip
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}

    assert result.returncode == 0
    for name, value, origin in [
        ("threads", "7", "--threads"),
        ("keepalive", "5", "gthreadsrv.conf.py"),
        ("timeout", "9", "GTHREADSRV_TIMEOUT"),
        ("backlog", "77", "GTHREADSRV_CMD_ARGS"),
        ("max_requests", "0", "default"),
    ]:
        assert value in lines[name].split() and origin in lines[name], lines[name]


@pytest.mark.parametrize(
    ("app", "body"),
    [
        ("behaviours:make_app()", b"made"),
        ("behaviours:make_app('hi')", b"hi"),
        ("behaviours:make_app(greeting='ho')", b"ho"),
        ("just_app", b"app of a module"),
        ("just_application", b"application of a module"),
    ],
)
def test_ways_to_name_the_application(serve: Servers, app: str, body: bytes) -> None:
    """MODULE:CALLABLE, MODULE with `app` or `application`, and factories with arguments."""
    assert serve(app).get("/").body == body


def test_listens_on_several_addresses(serve: Servers) -> None:
    """--bind may be given more than once, TCP and unix sockets mixed."""
    server = serve("behaviours:app", bind=("127.0.0.1:0", f"unix:{serve.folder}/a.sock"))
    addresses = server.listeners()

    assert len(addresses) == 2
    for address in addresses:
        with server.connect(address) as connection:
            assert connection.get("/hello").body == b"hello\n"


def test_listens_on_ipv6(serve: Servers) -> None:
    """[::1]:0 is an address like any other."""
    if not _has_ipv6():
        pytest.skip("no IPv6 loopback here")
    server = serve("behaviours:app", bind=("[::1]:0",))

    assert server.get("/hello").body == b"hello\n"
    assert json.loads(server.get("/environ_json").body)["REMOTE_ADDR"] == "::1"


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_takes_over_an_inherited_socket(serve: Servers) -> None:
    """fd://N serves a listening socket that the parent opened."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        fd = listener.fileno()
        server = serve("behaviours:app", bind=(f"fd://{fd}",), pass_fds=(fd,))
        server.wait_workers(1)
        port = listener.getsockname()[1]
        with server.connect(f"127.0.0.1:{port}") as connection:
            assert connection.get("/hello").body == b"hello\n"


def test_unix_socket_gets_the_umask_and_goes_at_exit(serve: Servers) -> None:
    """--umask takes bits from the socket's mode; the file is removed when the server leaves."""
    path = serve.folder / "web.sock"
    server = serve("behaviours:app", "--umask", "027", bind=(f"unix:{path}",))
    assert server.get("/hello").body == b"hello\n"

    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    assert server.stop() == 0
    assert not path.exists()


def test_stale_unix_socket_is_replaced_and_a_live_one_is_not(serve: Servers) -> None:
    """The file of a dead server is taken over; that of a living one is refused."""
    path = serve.folder / "web.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = serve("behaviours:app", bind=(f"unix:{path}",))
    assert server.get("/hello").body == b"hello\n"

    second = run_cli(
        "--bind", f"unix:{path}", "--metrics-bind", "off", "gthreadsrv.demo:app", cwd=serve.folder
    )
    assert second.returncode not in (0, 3)
    assert str(path) in one_line(second.stderr)
    assert server.get("/hello").body == b"hello\n"


def test_port_and_web_concurrency(serve: Servers) -> None:
    """PORT binds all interfaces, WEB_CONCURRENCY is the number of workers, as platforms set them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = serve(
        "behaviours:app", bind=(), workers=None, env={"PORT": str(port), "WEB_CONCURRENCY": "2"}
    )

    assert server.address.removeprefix("tcp://") == f"0.0.0.0:{port}"
    server.wait_workers(2)
    with server.connect(f"127.0.0.1:{port}") as connection:
        assert connection.get("/hello").body == b"hello\n"


def test_empty_variables_count_as_unset(serve: Servers) -> None:
    """WEB_CONCURRENCY="" and friends, common in container files, change nothing."""
    server = serve(
        "behaviours:app",
        env={"PORT": "", "WEB_CONCURRENCY": "", "GTHREADSRV_THREADS": "", "GTHREADSRV_BIND": ""},
    )

    assert server.get("/hello").body == b"hello\n"


def test_sizing_is_logged(serve: Servers) -> None:
    """With nothing given the server says how many CPUs it counted and what follows."""
    server = serve("behaviours:app", workers=None, threads=None, env={"PYTHON_CPU_COUNT": "2"})
    [line] = server.wait_log("sizing")

    assert (line["cpus"], line["workers"], line["threads"]) == (2, 2, 3)
    assert "PYTHON_CPU_COUNT" in repr(line)
    server.wait_workers(2)


def test_application_environment(serve: Servers) -> None:
    """-e sets variables before the application is imported."""
    server = serve("needs_variable:app", "-e", "VARIABLE=a=b c", "--env", "OTHER=1")

    assert server.get("/").body == b"a=b c"


def test_chdir_and_pythonpath(serve: Servers) -> None:
    """--chdir is where the application runs and is imported from."""
    folder = serve.folder / "elsewhere"
    folder.mkdir()
    (folder / "local_app.py").write_text(
        "import os\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [os.getcwd().encode()]\n"
    )
    server = serve("local_app:app", "--chdir", str(folder))

    assert server.get("/").text == str(folder)


def test_pidfile(serve: Servers) -> None:
    """--pid holds the master's pid while it runs, and is gone afterwards."""
    path = serve.folder / "server.pid"
    server = serve("behaviours:app", "--pid", str(path))
    server.get("/hello")

    assert int(path.read_text()) == server.pid
    assert server.stop() == 0
    assert not path.exists()


def test_configuration_file(serve: Servers) -> None:
    """-c names a Python file; a name it does not know is a warning, not a failure."""
    path = serve.folder / "conf.py"
    path.write_text("threads = 2\nraw_env = ['VARIABLE=from file']\nno_such_setting = 1\n")
    server = serve("behaviours:app", "-c", str(path), threads=None)

    assert who(server)["variable"] == "from file"
    assert "no_such_setting" in repr([x for x in server.lines if x["level"] == "warning"])


def test_preload_imports_once(serve: Servers) -> None:
    """With --preload the master imports the application, and workers share it."""
    record = serve.folder / "record"
    server = serve("behaviours:app", "--preload", workers=3, env={"RECORD": str(record)})
    server.wait_workers(3)

    assert record.read_text().splitlines() == [f"imported {server.pid}"]
    assert who(server)["ppid"] == server.pid


def test_without_preload_each_worker_imports(serve: Servers) -> None:
    """Without it the master never imports the application."""
    record = serve.folder / "record"
    server = serve("behaviours:app", workers=2, env={"RECORD": str(record)})
    pids = server.wait_workers(2)

    assert sorted(record.read_text().splitlines()) == sorted(f"imported {pid}" for pid in pids)


def test_sync_is_one_thread(serve: Servers) -> None:
    """--worker-class sync serves one request at a time per worker."""
    record, go_on = serve.folder / "record", serve.folder / "go"
    server = serve(
        "behaviours:app", "--worker-class", "sync", threads=None, env={"RECORD": str(record)}
    )
    with server.connect() as first, server.connect() as second:
        first.request("GET", f"/hold?name=first&until={go_on}")
        wait_until(lambda: "holding first" in read_record(record))
        second.request("GET", f"/hold?name=second&until={go_on}")
        with server.connect() as third:
            third.request("GET", "/hello")
            third.expect_silence()
        assert "holding second" not in read_record(record)
        go_on.touch()
        assert first.response().status == 200
        assert second.response().status == 200


def test_metrics_can_be_off(serve: Servers) -> None:
    """With --metrics-bind off there is no exporter process, and nobody imports prometheus_client."""
    server = serve("behaviours:app", workers=2)
    pids = server.wait_workers(2)

    assert sorted(server.left_behind()) == sorted([server.pid, *pids])
    assert who(server)["prometheus_client"] is False
    assert all(process_alive(pid) for pid in pids)


def test_process_titles_tell_who_is_who(serve: Servers) -> None:
    """Master, workers and exporter show role, slot and application in ps."""
    server = serve("behaviours:app", "--name", "shop", workers=2, metrics=True)
    server.wait_workers(2)
    server.wait_ready()

    def titles() -> list[str] | None:
        found = sorted(title(pid) for pid in server.left_behind())
        return found if all("shop" in text for text in found) else None

    found = wait_until(titles, what="titles")
    assert len(found) == 4
    for word in ("master", "exporter", "0", "1"):
        assert any(word in text for text in found), found
