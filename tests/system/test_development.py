"""What is for development: --reload, --debug-errors; and files without sendfile."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.conftest import Servers
from tests.system.harness import Server, run_cli, wait_until

GOOD = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [{!r}]\n"


def write(path: Path, text: str) -> None:
    """Write a file whose time differs from before: compiled code is told apart by seconds."""
    before = path.stat().st_mtime if path.exists() else 1_600_000_000
    path.write_text(text)
    os.utime(path, (before + 2, before + 2))


def says(server: Server, body: bytes) -> Callable[[], bool]:
    """Whether every one of some answers is this."""
    return lambda: all(server.get("/").body == body for _ in range(3))


@pytest.mark.parametrize("engine", ["poll", "auto"])
def test_changed_code_is_served_and_broken_code_is_not(
    serve: Servers, tmp_path: Path, engine: str
) -> None:
    """By the master's own reload: no request is lost, and the old workers stay until it boots."""
    module = tmp_path / "changing_for_test.py"
    write(module, GOOD.format(b"one"))
    server = serve(
        "changing_for_test:app", "--reload", "--reload-engine", engine, "--chdir", str(tmp_path),
        "--reload-extra-file", str(tmp_path / "*.html"), workers=2, allow_errors=True,
    )  # fmt: skip
    server.wait_log("worker ready", 2)
    assert server.get("/").body == b"one"
    write(module, GOOD.format(b"two"))
    server.wait_log("code changed", path=str(module))
    server.wait_log("reloaded")
    wait_until(says(server, b"two"), 30, "the new code")
    write(module, "def app(:\n")
    server.wait_log("reload failed")
    assert "SyntaxError" in str(server.logged("worker could not boot")[-1])
    assert says(server, b"two")()
    write(module, "import helper_for_reload_test\n")
    server.wait_log("reload failed", 2)
    # What was missing, in a file that no worker has imported.
    (tmp_path / "helper_for_reload_test.py").write_text("")
    server.wait_log("code changed", path=str(tmp_path / "helper_for_reload_test.py"))
    write(module, GOOD.format(b"three"))
    server.wait_log("reloaded", 2)
    wait_until(says(server, b"three"), 30, "the corrected code")
    (tmp_path / "page.html").write_text("<p>")
    server.wait_log("reloaded", 3)
    # Two workers saw each change; each was one reload.
    assert len(server.logged("reloading")) == len(server.logged("code changed"))


def test_reloading_without_watchfiles_says_so(serve: Servers, tmp_path: Path) -> None:
    """An engine that was asked for and is not there: the other one, and a line."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['watchfiles'] = None\n")
    write(tmp_path / "changing_for_test.py", GOOD.format(b"one"))
    server = serve(
        "changing_for_test:app", "--reload", "--reload-engine", "inotify", "--chdir",
        str(tmp_path), env={"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )  # fmt: skip
    server.wait_log("watchfiles is not installed, looking at files each second")
    write(tmp_path / "changing_for_test.py", GOOD.format(b"two"))
    server.wait_log("reloaded")


def test_tracebacks_are_shown_when_asked_for_and_never_else(serve: Servers) -> None:
    """As plain text, from the application's own line on."""
    server = serve("troubles:app", allow_errors=True)
    server.wait_log("worker ready")
    hidden = server.get("/fail")
    assert (hidden.status, hidden.body) == (500, b"Internal Server Error\n")
    server = serve("troubles:app", "--debug-errors", allow_errors=True)
    server.wait_log("worker ready")
    (line,) = server.logged("setting ignored or changed")
    assert line["detail"].startswith("debug_errors: tracebacks are shown to every client")
    shown = server.get("/fail")
    assert shown.status == 500
    assert shown.header("Content-Type") == "text/plain; charset=utf-8"
    assert "Traceback (most recent call last):" in shown.text
    assert "troubles.py" in shown.text
    assert "service.py" not in shown.text


def test_files_can_be_sent_without_sendfile(serve: Servers, tmp_path: Path) -> None:
    """For file systems on which it is broken; the bytes are the same."""
    (tmp_path / "data").write_bytes(os.urandom(300_000))
    (tmp_path / "sending_for_test.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '300000')])\n"
        "    wrapper = environ['wsgi.file_wrapper'](open('data', 'rb'))\n"
        "    print(wrapper.span() is not None, flush=True)\n"
        "    return wrapper\n"
    )
    for words, env, used in (
        ((), {}, "True"), (("--no-sendfile",), {}, "False"), ((), {"SENDFILE": "0"}, "False"),
    ):  # fmt: skip
        server = serve("sending_for_test:app", *words, env=env)
        server.wait_log("worker ready")
        assert server.get("/").body == (tmp_path / "data").read_bytes()
        assert wait_until(lambda server=server: server.stdout) == [used]


def test_a_pastedeploy_file_without_pastedeploy_is_refused(tmp_path: Path) -> None:
    """With what to install."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['paste'] = None\n")
    (tmp_path / "shop.ini").write_text("[app:main]\nuse = egg:shop\n")
    done = run_cli(
        "--check-config", "--paste", "shop.ini", cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "pip install PasteDeploy" in done.stderr
