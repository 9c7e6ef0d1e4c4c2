"""Behind a real nginx, over TCP and a unix socket: reuse, uploads, streams, load."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
import requests

from tests.bench.boot import free_port
from tests.conftest import SEARCH_PATH
from tests.system.conftest import Combination
from tests.system.harness import Server, wait_until

pytestmark = pytest.mark.program("nginx")

CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_max_body_size 20m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream gthreadsrv {{ server {upstream}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://gthreadsrv;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_request_buffering off;
        }}
    }}
}}
"""


@pytest.fixture(scope="module")
def web(combination: Combination) -> Iterator[Server]:
    """The server behind the proxy."""
    with combination.server("behaviours:app", workers=2, threads=2) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(web: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an nginx of the module's own."""
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    address, port = web.address, free_port()
    config = folder / "nginx.conf"
    # As root nginx's workers would run as another user, who may not reach the socket's folder.
    user = "user root;\n" if os.getuid() == 0 else ""
    config.write_text(
        user + CONFIG.format(folder=folder, upstream=address.removeprefix("tcp://"), port=port)
    )
    program = shutil.which("nginx", path=SEARCH_PATH)
    assert program is not None
    process = subprocess.Popen(
        [program, "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")],
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(url), what=f"nginx: {(folder / 'error.log')}")
        yield url
        errors = (folder / "error.log").read_text()
        assert "upstream" not in errors, errors
    finally:
        process.terminate()
        process.wait(10)


def answers(url: str) -> bool:
    """Whether the proxy is there."""
    try:
        return requests.get(f"{url}/hello", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def test_requests_go_through(proxy: str) -> None:
    """Answers with a length, in chunks and without a body pass the proxy unharmed."""
    with requests.Session() as client:
        assert client.get(f"{proxy}/hello").text == "hello\n"
        assert client.get(f"{proxy}/pieces?n=20&size=5000").content.count(b"7") == 10_000
        assert client.get(f"{proxy}/status?code=204+No+Content").status_code == 204
        assert client.get(f"{proxy}/not_modified").status_code == 304
        assert client.head(f"{proxy}/blob?n=100").headers["Content-Length"] == "100"


def test_uploads_go_through(proxy: str) -> None:
    """Bodies with a length and in chunks, unbuffered by the proxy."""

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_001

    assert requests.post(f"{proxy}/size", data=b"y" * 5_000_000, timeout=20).text == "5000000"
    assert requests.post(f"{proxy}/size", data=pieces(), timeout=20).text == "1000100"


def test_upstream_connections_are_reused(proxy: str, web: Server) -> None:
    """Nginx keeps its connections to the server and is never met by a closed one."""
    ports = set()
    with requests.Session() as client:
        for _ in range(50):
            ports.add(client.get(f"{proxy}/environ_json").json()["REMOTE_PORT"])

    assert len(ports) <= 8


@pytest.mark.program("wrk")
def test_load_through_the_proxy_has_no_failures(proxy: str) -> None:
    """Two seconds of wrk through nginx: no socket error, no status but 200."""
    done = subprocess.run(
        ["wrk", "-t1", "-c16", "-d2s", f"{proxy}/hello"], capture_output=True, text=True, check=True
    )

    assert "Requests/sec" in done.stdout
    assert "Socket errors" not in done.stdout, done.stdout
    assert "Non-2xx" not in done.stdout, done.stdout


@pytest.mark.program("wrk")
def test_load_without_a_proxy_has_no_failures(web: Server) -> None:
    """The same without nginx, on TCP."""
    if web.address.startswith("unix:"):
        pytest.skip("wrk speaks TCP only")
    done = subprocess.run(
        ["wrk", "-t1", "-c16", "-d2s", f"{web.base_url}/hello"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert "Socket errors" not in done.stdout, done.stdout
    assert "Non-2xx" not in done.stdout, done.stdout
