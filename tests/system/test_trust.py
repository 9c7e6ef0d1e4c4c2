"""What the server keeps to itself: secrets from its logs, requests from its metrics port."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from gthreadsrv.settings import Settings
from tests.system.client import Connection
from tests.system.conftest import Servers
from tests.system.harness import Server, clean_environment, open_socket, run_cli, title

SECRET = "hunter2-hunter2"
MARK = "markmarkmark"


def test_secrets_in_the_environment_stay_there(serve: Servers) -> None:
    """Boot, a failing request, a reload and a stop, all at level debug: not a word of them."""
    (serve.folder / "gthreadsrv.conf.py").write_text(f"raw_env = ['FROM_FILE={SECRET}']\n")
    server = serve(
        "behaviours:app", "--log-level", "debug", "--access-logfile", "-",
        "--access-logformat", "%(h)s %(r)s %({authorization}i)s %({cookie}i)s %(u)s",
        env={"DATABASE_URL": f"postgres://shop:{SECRET}@db/shop"}, allow_errors=True,
    )  # fmt: skip
    server.wait_log("worker ready")
    server.get("/fail", Authorization=f"Bearer {SECRET}", Cookie=f"session={SECRET}")
    with server.connect() as client:
        client.send(f"GET / HTTP/1.1\r\nAuthorization {SECRET}\r\n\r\n".encode())
        assert client.response().status == 400
    titles = [title(pid) for pid in server.left_behind()]
    server.send_signal(signal.SIGHUP)
    server.wait_log("worker ready", 2)
    assert server.stop() == 0

    said = "\n".join([server.report(), *map(str, server.lines), *server.stdout, *titles])
    assert "failed on purpose" in said
    assert SECRET not in said


def test_secrets_are_not_printed_with_the_settings(tmp_path: Path) -> None:
    """Neither those of -e, by any way they may come, nor the environment's own."""
    (tmp_path / "gthreadsrv.conf.py").write_text(f"raw_env = ['FROM_FILE={SECRET}']\n")
    env = {"DATABASE_URL": SECRET, "GTHREADSRV_RAW_ENV": f"A={SECRET}", "TOKEN": SECRET}
    for args in ([], ["-e", f"B={SECRET}"]):
        done = run_cli("--print-config", *args, "a:b", cwd=tmp_path, env=env)
        assert done.returncode == 0
        assert "raw_env" in done.stdout
        assert SECRET not in done.stdout + done.stderr
    assert clean_environment(env)["TOKEN"] == SECRET


@pytest.fixture
def web(serve: Servers) -> Server:
    """A server with a metrics port."""
    server = serve("behaviours:app", metrics=True)
    server.wait_ready()
    return server


def metrics_socket(server: Server) -> Connection:
    """A connection to the metrics port."""
    return Connection(open_socket(server.metrics_url.removeprefix("http://")))


def test_the_metrics_port_is_on_loopback() -> None:
    """Unless somebody says otherwise."""
    assert Settings().metrics_bind.startswith("127.0.0.1:")


def test_nothing_of_a_request_is_on_the_metrics_port(web: Server) -> None:
    """Not its target, its fields, its body or its method."""
    with web.connect() as client:
        client.request("POST", f"/echo?{MARK}", {"Cookie": MARK, "X-Id": MARK}, MARK.encode())
        assert client.response().text == MARK
    with web.connect() as client:
        client.request(MARK.upper(), "/hello", {"X-Request-Id": MARK})
        assert client.response().status == 501
    for path in ("/metrics", "/livez", "/readyz", "/startupz", "/", f"/{MARK[:4]}"):
        page = web.probe(path)
        assert MARK not in page.text.lower() + str(page.headers).lower()
    with metrics_socket(web) as client:
        client.request("GET", "/metrics", {"Accept": "application/openmetrics-text"})
        assert MARK.encode() not in client.response().body.lower()


def test_the_metrics_port_takes_no_nonsense(web: Server) -> None:
    """Bad, large and slow clients get a status or nothing, and the next scrape its answer."""
    with metrics_socket(web) as client:
        client.send(b"\x16\x03\x01\x02\0\x01")
        assert client.response().status == 400
    with metrics_socket(web) as client:
        client.send(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 20_000)
        assert client.response().status == 431
    with metrics_socket(web) as client:
        client.request("POST", "/metrics", body=b"x" * 100)
        assert client.response().status in (405, 413)
    # A head that never ends: the exporter's patience is two seconds, whatever the server's is.
    with metrics_socket(web) as client:
        client.send(b"GET /metrics HTTP/1.1\r\nHo")
        assert client.response().status == 408
    with metrics_socket(web) as slow:
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 50)
        assert web.probe("/metrics").status_code == 200
    assert web.probe("/readyz").status_code == 200
    assert os.path.exists(f"/proc/{web.pid}")
