"""Real front ends for tests: nginx, HAProxy and Apache httpd, each with a configuration of its own.

A front end is started in a folder of the test's, on loopback, and is gone with the block. Its
access log says which requests it has sent on: one line each, "METHOD TARGET".
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.bench.boot import free_port
from tests.conftest import SEARCH_PATH
from tests.system.client import Connection
from tests.system.harness import wait_until

APACHE_MODULES = Path("/usr/lib/apache2/modules")
NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


class Front:
    """One running front end."""

    def __init__(self, argv: Sequence[str], ports: Sequence[int], folder: Path) -> None:
        """Start it, and wait until it listens on all its ports."""
        self.folder, self.ports = folder, list(ports)
        self.said = folder / "output.log"
        self._output = self.said.open("wb")
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
        try:
            wait_until(self._listens, what=f"{argv[0]} to listen")
        except BaseException:
            print(self.report())
            self.stop()
            raise

    @property
    def port(self) -> int:
        """The first one."""
        return self.ports[0]

    @property
    def url(self) -> str:
        """What clients ask."""
        return f"http://127.0.0.1:{self.port}"

    def connect(
        self, port: int | None = None, source: str = "127.0.0.1", host: str = "127.0.0.1"
    ) -> Connection:
        """A client's connection from that address."""
        address = (host, port or self.port)
        return Connection(socket.create_connection(address, 20, source_address=(source, 0)))

    def sent(self) -> list[str]:
        """The requests that it has sent on, as far as it has logged them."""
        lines = self.said.read_text(errors="replace").splitlines()
        log = self.folder / "access.log"
        if log.exists():
            lines += log.read_text(errors="replace").splitlines()
        return [line.removeprefix("sent ") for line in lines if line.startswith("sent ")]

    def report(self) -> str:
        """What it had to say, for a failing test."""
        logs = [self.said, self.folder / "error.log"]
        return "\n".join(path.read_text(errors="replace")[-4000:] for path in logs if path.exists())

    def stop(self) -> None:
        """End it; its children go with it."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)
        self._output.close()

    def _listens(self) -> bool:
        assert self.process.poll() is None, f"it ended\n{self.report()}"
        for port in self.ports:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    return False
        return True


@contextlib.contextmanager
def socket_folder() -> Iterator[Path]:
    """A folder that a front end's workers may enter, whoever they run as."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def program(name: str) -> str:
    """Where it is; tests that come here are marked with it."""
    found = shutil.which(name, path=SEARCH_PATH)
    assert found is not None
    return found


@contextlib.contextmanager
def running(argv: Sequence[str], ports: Sequence[int], folder: Path) -> Iterator[Front]:
    """A front end for the length of a block."""
    front = Front(argv, ports, folder)
    try:
        yield front
    finally:
        front.stop()


# -- nginx ---------------------------------------------------------------------------------

_NGINX = """
{modules}
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
    log_format sent 'sent $request_method $request_uri';
    map $upstream_addr $went {{ "" 0; default 1; }}
    access_log {folder}/access.log sent if=$went;
    client_max_body_size 20m;
    keepalive_timeout {patience_s}s;
    client_header_timeout {patience_s}s;
    client_body_timeout {patience_s}s;
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
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto https;
            proxy_set_header Forwarded "for=\\"$remote_addr:$remote_port\\";proto=https";
            proxy_request_buffering off;
            proxy_buffering off;
            {extra}
        }}
    }}
}}
{stream}
"""


@contextlib.contextmanager
def nginx(
    folder: Path,
    upstream: str,
    *,
    patience_s: int = 20,
    extra: str = "",
    stream_to: str = "",
) -> Iterator[Front]:
    """Nginx; with ``stream_to`` a second port passes connections on with a PROXY header."""
    port, stream_port = free_port(), free_port()
    stream = modules = ""
    if stream_to:
        if not NGINX_STREAM.exists():
            pytest.skip("nginx has no stream module (make test-deps)")
        modules = f"load_module {NGINX_STREAM};"
        stream = (
            f"stream {{ server {{ listen 127.0.0.1:{stream_port};"
            f" proxy_pass {stream_to.removeprefix('tcp://')}; proxy_protocol on; }} }}"
        )
    config = folder / "nginx.conf"
    config.write_text(
        _NGINX.format(
            folder=folder,
            port=port,
            upstream=upstream.removeprefix("tcp://"),
            # As root nginx's workers would run as another user, who may not reach the folder.
            user="user root;" if os.getuid() == 0 else "",
            patience_s=patience_s,
            extra=extra,
            modules=modules,
            stream=stream,
        )
    )
    argv = [program("nginx"), "-c", str(config), "-p", str(folder), "-e", f"{folder}/error.log"]
    with running(argv, [port, stream_port] if stream_to else [port], folder) as front:
        yield front


# -- HAProxy -------------------------------------------------------------------------------

_HAPROXY = """
global
    log stdout format raw local0
    maxconn 256
defaults
    mode http
    log global
    timeout connect 5s
    timeout check 10s
    timeout client {patience_s}s
    timeout http-request {patience_s}s
    timeout http-keep-alive {patience_s}s
    timeout server 20s
    http-reuse always
"""

_HAPROXY_HTTP = """
listen http
    bind 127.0.0.1:{port}
    log-format "%s %HM %HU"
    option forwardfor
    http-request set-header X-Forwarded-Proto https
    http-request set-header Forwarded "for=\\"%ci:%cp\\";proto=https"
    {extra}
    server sent {upstream} {options}
"""


def haproxy_address(address: str) -> str:
    """A server's address as HAProxy writes it."""
    return address.removeprefix("tcp://").replace("unix:", "unix@")


@contextlib.contextmanager
def haproxy(
    folder: Path,
    upstream: str,
    *,
    patience_s: int = 20,
    options: str = "",
    extra: str = "",
    also: Sequence[str] = (),
) -> Iterator[Front]:
    """HAProxy; each text of ``also`` is a section whose {port} is one more port."""
    ports = [free_port() for _ in range(1 + len(also))]
    upstream = haproxy_address(upstream)
    text = _HAPROXY.format(patience_s=patience_s)
    text += _HAPROXY_HTTP.format(port=ports[0], upstream=upstream, options=options, extra=extra)
    for section, port in zip(also, ports[1:], strict=True):
        text += section.format(port=port, upstream=upstream)
    config = folder / "haproxy.cfg"
    config.write_text(text)
    with running([program("haproxy"), "-db", "-f", str(config)], ports, folder) as front:
        yield front


# -- Apache httpd --------------------------------------------------------------------------

_APACHE = """
ServerRoot "{folder}"
ServerName localhost
DefaultRuntimeDir "{folder}"
PidFile "{folder}/httpd.pid"
Listen 127.0.0.1:{port}
{modules}
{user}
StartServers 1
ServerLimit 1
ThreadsPerChild 16
MaxRequestWorkers 16
GracefulShutdownTimeout 1
ErrorLog "{folder}/error.log"
LogLevel warn
LogFormat "sent %m %U%q" sent
CustomLog "{folder}/access.log" sent
ProxyRequests Off
ProxyPass / "{upstream}" flushpackets=on
RequestHeader set X-Forwarded-Proto https
RequestHeader set Forwarded "expr=for=\\"%{{REMOTE_ADDR}}\\";proto=https"
"""


@contextlib.contextmanager
def apache(folder: Path, upstream: str) -> Iterator[Front]:
    """Apache httpd."""
    port = free_port()
    names = ("mpm_event", "authz_core", "proxy", "proxy_http", "headers")
    modules = "\n".join(
        f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in names
    )
    address = upstream.removeprefix("tcp://")
    config = folder / "httpd.conf"
    config.write_text(
        _APACHE.format(
            folder=folder,
            port=port,
            modules=modules,
            upstream=f"{address}|http://server/"
            if upstream[:5] == "unix:"
            else f"http://{address}/",
            user="User nobody\nGroup nogroup" if os.getuid() == 0 else "",
        )
    )
    argv = [program("apache2"), "-f", str(config), "-DFOREGROUND"]
    with running(argv, [port], folder) as front:
        yield front
