"""The files below examples/, run by the programs that they are for."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests

from tests.bench.ports import free_port
from tests.conftest import SEARCH_PATH
from tests.system.conftest import Servers, bind_for
from tests.system.harness import APPS, Server, clean_environment, open_socket, wait_until
from tests.system.test_signals import Load, load

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str, **replacements: str) -> str:
    """An example's text with other places in it; each must be there to be replaced."""
    text = (EXAMPLES / name).read_text()
    for before, after in replacements.items():
        assert before in text, f"{before} is not in {name}"
        text = text.replace(before, after)
    return text


def program(name: str) -> str:
    """Where a program is, also one that Debian keeps from ordinary users."""
    found = shutil.which(name, path=SEARCH_PATH)
    assert found is not None
    return found


def at(address: str) -> Server:
    """As much of a server as clients need."""
    return cast("Server", SimpleNamespace(address=address))


# supervisor

SUPERVISORD = """
[unix_http_server]
file={folder}/supervisor.sock
[supervisord]
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
nodaemon=true
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/supervisor.sock
"""


@contextmanager
def supervised(
    folder: Path, name: str, port: int, before: str = ""
) -> Iterator[Callable[..., str]]:
    """A supervisord that runs an example; `supervisorctl`. The application does `before` first."""
    (folder / "shop").mkdir()
    serves = "from behaviours import app as application\n"
    (folder / "shop" / "wsgi.py").write_text(before + serves)
    text = example(
        f"supervisor/{name}",
        **{
            "/srv/shop/venv/bin/gthreadsrv": str(Path(sys.executable).with_name("gthreadsrv")),
            "/srv/shop": str(folder),
            "user=shop": f"user={getpass.getuser()}",
            "127.0.0.1:8000": f"127.0.0.1:{port}",
            "/var/log/shop": str(folder),
        },
    )
    config = folder / "supervisord.conf"
    config.write_text(SUPERVISORD.format(folder=folder) + text)
    path = os.pathsep.join(filter(None, [str(APPS), os.environ.get("PYTHONPATH")]))
    environ = clean_environment({"GTHREADSRV_METRICS_BIND": "off", "PYTHONPATH": path})
    tools = {name: value for name, value in environ.items() if not name.startswith("COVERAGE")}

    def control(*words: str) -> str:
        # supervisorctl is a Python program of the system's: nothing of ours on its path.
        done = subprocess.run(
            [program("supervisorctl"), "-c", str(config), *words],
            capture_output=True, text=True, timeout=60, check=False,
            env={name: value for name, value in tools.items() if name != "PYTHONPATH"},
        )  # fmt: skip
        return done.stdout + done.stderr

    daemon = subprocess.Popen(
        [program("supervisord"), "-n", "-c", str(config)], env=environ, cwd=folder,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: "RUNNING" in control("status", "shop"), 40, "running")
        yield control
    finally:
        daemon.terminate()
        daemon.wait(60)


def answers(address: str) -> bool:
    """Whether a client gets through."""
    try:
        open_socket(address, 5).close()
    except OSError:
        return False
    return True


@pytest.mark.program("supervisord")
def test_supervisor(tmp_path: Path) -> None:
    """Started, reloaded without a loss, restarted without a broken answer, and stopped."""
    port = free_port()
    server = at(f"127.0.0.1:{port}")
    log = tmp_path / "server.log"
    with supervised(tmp_path, "shop.conf", port) as control:
        wait_until(lambda: answers(server.address), 40)
        with load(server) as clients:
            assert "shop: signalled" in control("signal", "HUP", "shop")
            wait_until(lambda: '"reloaded"' in log.read_text(), 40)
        assert clients.failures == []

        restless = Load(server, "/hello", keep_alive=True)
        restless.start()
        try:
            wait_until(lambda: restless.answers)
            assert "shop: started" in control("restart", "shop")
            seen = len(restless.answers)
            wait_until(lambda: len(restless.answers) > seen + 20, 40, "served again")
        finally:
            restless.stop()
        fair = ("Refused", "timed out")
        assert [x for x in restless.failures if not any(word in x for word in fair)] == []

        assert "shop: stopped" in control("stop", "shop")
        assert not answers(server.address)
        assert "killed" not in log.read_text()


NEEDS_A_DATABASE = """
import os, time
time.sleep(1.5)  # supervisor takes what ends within a second for a program that cannot start
if not os.path.exists("database"):
    raise ConnectionError("there is no database")
"""


@pytest.mark.program("supervisord")
def test_supervisor_tries_again_what_may_be_there_later(tmp_path: Path) -> None:
    """An application that cannot be imported yet, as while the machine boots."""
    port = free_port()
    log = tmp_path / "server.log"
    with supervised(tmp_path, "shop.conf", port, NEEDS_A_DATABASE) as control:
        wait_until(lambda: "there is no database" in log.read_text(), 40)
        (tmp_path / "database").touch()
        wait_until(lambda: answers(f"127.0.0.1:{port}"), 40, "served")
        assert "shop: stopped" in control("stop", "shop")


# Web servers

NGINX = """
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/shop.conf;
}}
"""

APACHE = """
ServerRoot {folder}
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
ServerName localhost
Listen 127.0.0.1:{port}
{modules}
{shop}
"""
MODULES = ("mpm_event", "authz_core", "proxy", "proxy_http", "headers")
MODULE_FOLDER = Path("/usr/lib/apache2/modules")


@contextmanager
def proxy(words: list[str], test: list[str], folder: Path, port: int) -> Iterator[Server]:
    """A web server whose configuration is checked first."""
    checked = subprocess.run(
        [*words, *test], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(f"127.0.0.1:{port}"), 40, "the proxy")
        yield at(f"127.0.0.1:{port}")
        errors = (folder / "error.log").read_text()
        assert "upstream" not in errors and "proxy:error" not in errors, errors
    finally:
        process.terminate()
        process.wait(60)


def check(web: Server) -> None:
    """Real traffic: many requests, an upload, and what the application is told of its client."""
    with load(web, "/hello") as clients:
        wait_until(lambda: len(clients.answers) > 100, 40)
    assert clients.failures == []
    with requests.Session() as session:
        session.trust_env = False
        url = f"http://{web.address}"
        assert session.post(f"{url}/size", data=b"x" * 3_000_000, timeout=40).text == "3000000"
        told: dict[str, Any] = session.get(
            f"{url}/environ_json", headers={"Host": "shop.example.com"}, timeout=40
        ).json()
    assert told["HTTP_HOST"] == "shop.example.com"
    assert told["wsgi.url_scheme"] == "http"
    assert told["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
    assert told["HTTP_X_FORWARDED_PROTO"] == "http"


@pytest.mark.program("nginx")
@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_nginx(serve: Servers, transport: str) -> None:
    """`nginx -t`, and traffic, over both kinds of sockets."""
    folder, port = serve.folder, free_port()
    folder.chmod(0o755)
    server = serve("behaviours:app", workers=2, bind=(bind_for(transport, folder),))
    before = {"tcp": "127.0.0.1:8000 fail", "unix": "unix:/run/shop.sock fail"}[transport]
    text = example(
        f"nginx/shop-{transport}.conf",
        **{before: f"{server.address} fail", "listen 80;": f"listen 127.0.0.1:{port};"},
    )
    (folder / "shop.conf").write_text(text)
    # As root nginx's workers would run as another user, who may not reach the socket's folder.
    user = "user root;" if os.getuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, user=user))
    words = [program("nginx"), "-c", str(config), "-p", str(folder)]
    with proxy([*words, "-e", str(folder / "error.log")], ["-t"], folder, port) as web:
        check(web)


@pytest.mark.program("apache2")
def test_apache(serve: Servers) -> None:
    """`apache2 -t`, and traffic."""
    folder, port = serve.folder, free_port()
    server = serve("behaviours:app", workers=2)
    shop = example(
        "apache/shop.conf",
        **{"127.0.0.1:8000": server.address, "*:80": f"127.0.0.1:{port}"},
    )
    config = folder / "apache.conf"
    modules = "\n".join(
        f"LoadModule {name}_module {MODULE_FOLDER}/mod_{name}.so" for name in MODULES
    )
    config.write_text(APACHE.format(folder=folder, port=port, modules=modules, shop=shop))
    words = [program("apache2"), "-f", str(config)]
    with proxy([*words, "-DFOREGROUND"], ["-t"], folder, port) as web:
        check(web)
