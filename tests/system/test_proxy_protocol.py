"""The PROXY protocol as HAProxy and nginx speak it, and as those speak who should not."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.certificates import Authority
from tests.system import fronts
from tests.system.client import Connection, dribble
from tests.system.conftest import Combination, Servers
from tests.system.harness import Server, wait_until

CLIENTS = ("127.0.0.5", "127.0.0.6")

# What stands in for a network load balancer passes bytes on and says so in version 2.
SECTIONS = {
    "v1": "server sent {upstream} send-proxy",
    "v2": "unique-id-format %pid-%rt\n    server sent {upstream} send-proxy-v2"
    " proxy-v2-options crc32c,unique-id,authority",
    "tcp-v1": "mode tcp\n    server sent {upstream} send-proxy",
    "tcp-v2": "mode tcp\n    server sent {upstream} send-proxy-v2 proxy-v2-options crc32c",
    "checked": "option httpchk GET /hello?check\n"
    "    server sent {upstream} send-proxy-v2 check inter 100ms fastinter 100ms",
    "checked-v1": "server sent {upstream} send-proxy check inter 100ms fastinter 100ms",
}
PORTS = [*SECTIONS, "nginx-stream"]


@dataclass
class Behind:
    """A server that wants PROXY headers, and the ports of proxies that send them."""

    server: Server
    ports: dict[str, int]
    haproxy: fronts.Front


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(case, marks=pytest.mark.program("haproxy", "nginx"), id="-".join(case))
        for case in (("h11", "tcp"), ("httptools", "unix"))
    ],
)
def behind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    """One HAProxy and one nginx before a server."""
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "nginx").mkdir()
    parser, transport = request.param
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            Combination(parser, transport, "gthread", folder).server(
                "behaviours:app", "--proxy-protocol", "--access-logfile", str(folder / "access.log"),
                workers=1, threads=4, metrics=True,
            )
        )  # fmt: skip
        sections = [
            f"\nlisten {name}\n    bind 127.0.0.1:{{port}}\n    {text}\n"
            for name, text in SECTIONS.items()
        ]
        haproxy = stack.enter_context(
            fronts.haproxy(folder, server.address, options="send-proxy-v2", also=sections)
        )
        nginx = stack.enter_context(
            fronts.nginx(folder / "nginx", server.address, stream_to=server.address)
        )
        ports = dict(zip(SECTIONS, haproxy.ports[1:], strict=True))
        yield Behind(server, {**ports, "nginx-stream": nginx.ports[1]}, haproxy)
        # Proxies that connect and leave, to probe and to check, are nobody's fault.
        wrong = server.samples("gthreadsrv_request_errors_total")
        assert not any(wrong.values()), wrong


def environ(client: Connection) -> Any:
    """What the application is told about one more request of this client."""
    client.request("GET", "/environ_json")
    return json.loads(client.response().body)


@pytest.mark.parametrize("port", PORTS)
def test_each_client_is_itself(behind: Behind, port: str) -> None:
    """Address and port, also when two of them ask in turn through the same proxy."""
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(behind.haproxy.connect(behind.ports[port], source=source))
            for source in CLIENTS
        ]
        for _ in range(2):
            for client, source in zip(clients, CLIENTS, strict=True):
                told = environ(client)
                name = (told["REMOTE_ADDR"], told["REMOTE_PORT"])
                assert name == (source, str(client.sock.getsockname()[1]))


@pytest.mark.parametrize("port", ["v2", "tcp-v2", "nginx-stream"])
def test_bodies_go_through(behind: Behind, port: str, tmp_path: Path) -> None:
    """Large ones both ways, and one in pieces."""

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_001

    url = f"http://127.0.0.1:{behind.ports[port]}"
    assert requests.post(f"{url}/size", data=b"y" * 2_000_000, timeout=20).text == "2000000"
    assert requests.post(f"{url}/size", data=pieces(), timeout=20).text == "1000100"
    assert len(requests.get(f"{url}/blob?n=2000000", timeout=20).content) == 2_000_000


def test_the_access_log_names_the_client(behind: Behind) -> None:
    """Not the proxy."""
    with behind.haproxy.connect(behind.ports["tcp-v1"], source=CLIENTS[0]) as client:
        client.get("/hello?logged")
    lines = wait_until(lambda: logged(behind.server, "/hello?logged"), what="the line")

    assert [line["remote_addr"] for line in lines] == [CLIENTS[0]]


def logged(server: Server, target: str) -> list[Any]:
    """The access log's lines about one target."""
    text = (server.cwd / "access.log").read_text()
    return [line for line in map(json.loads, text.splitlines()) if line["target"] == target]


def test_health_checks_are_the_proxys_own(behind: Behind) -> None:
    """LOCAL: the address is that of the connection itself, which on a unix socket is none."""
    lines = wait_until(lambda: logged(behind.server, "/hello?check"), what="a check")
    tcp = behind.server.address.startswith("unix:") is False

    assert {line["remote_addr"] for line in lines} == {"127.0.0.1" if tcp else ""}
    assert {line["status"] for line in lines} == {200}
    assert "DOWN" not in behind.haproxy.report()


def extended(source: str, *extensions: tuple[int, bytes]) -> bytes:
    """A header of version 2 with extensions, as AWS' network load balancer sends it."""
    rest = socket.inet_aton(source) + socket.inet_aton("10.0.0.1") + struct.pack("!HH", 4711, 80)
    rest += b"".join(struct.pack("!BH", kind, len(value)) + value for kind, value in extensions)
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(rest)) + rest


def test_extensions_are_skipped(behind: Behind) -> None:
    """The id of an AWS endpoint service (0xEA), at once or byte by byte."""
    header = extended("203.0.113.9", (0xEA, b"\x01vpce-08d2bf15fac5001c9"), (4, bytes(300)))
    with behind.server.connect() as client:
        client.send(header)
        assert environ(client)["REMOTE_ADDR"] == "203.0.113.9"
    with behind.server.connect() as client:
        dribble(client, header)
        assert environ(client)["REMOTE_PORT"] == "4711"


@pytest.mark.program("haproxy")
def test_a_client_over_ipv6(serve: Servers, tmp_path: Path) -> None:
    """Version 1 and 2."""
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
    server = serve("behaviours:app", "--proxy-protocol=auto")
    both = [
        f"\nlisten six-{way}\n    bind 127.0.0.1:{{port}}\n    bind [::1]:{{port}}\n"
        f"    server sent {{upstream}} {way}\n"
        for way in ("send-proxy", "send-proxy-v2")
    ]
    with fronts.haproxy(tmp_path, server.address, options="send-proxy", also=both) as front:
        for port in front.ports[1:]:
            with front.connect(port, source="::1", host="::1") as client:
                told = environ(client)
                assert told["REMOTE_ADDR"] == "::1"
                assert told["REMOTE_PORT"] == str(client.sock.getsockname()[1])


def test_without_a_header_there_is_no_request(serve: Servers) -> None:
    """400 and the end of the connection, counted by its own reason; or 403 for the uninvited."""
    server = serve("behaviours:app", "--proxy-protocol", "v2", metrics=True)
    with server.connect() as client:
        client.request("GET", "/hello")
        assert client.response().status == 400
        client.expect_close()
    with server.connect() as client:
        client.send(b"PROXY TCP4 203.0.113.9 10.0.0.1 1 1\r\n")
        assert client.response().status == 400
        client.expect_close()
    wait_until(
        lambda: server.sample("gthreadsrv_request_errors_total", reason="proxy_protocol") == 2,
        what="the count",
    )
    assert len(server.logged("request refused", reason="proxy_protocol")) == 2

    closed = serve("behaviours:app", "--proxy-protocol", "--proxy-allow-from", "10.9.9.9")
    for data in (extended("203.0.113.9"), b"GET / HTTP/1.1\r\n"):
        with closed.connect() as client:
            client.send(data)
            assert client.response().status == 403
            client.expect_close()


@pytest.mark.program("haproxy")
def test_tls_begins_behind_the_header(serve: Servers, tmp_path: Path) -> None:
    """A balancer that passes TLS on puts its header before the handshake."""
    authority = Authority(tmp_path / "authority")
    files = authority.issue("server")
    server = serve(
        "behaviours:app", "--proxy-protocol", "--certfile", files.certfile,
        "--keyfile", files.keyfile,
    )  # fmt: skip
    section = (
        "\nlisten tls\n    mode tcp\n    bind 127.0.0.1:{port}\n"
        "    server sent {upstream} send-proxy-v2\n"
    )

    def secured(sock: socket.socket) -> Connection:
        return Connection(authority.client().wrap_socket(sock, server_hostname="localhost"))

    with fronts.haproxy(tmp_path, server.address, options="send-proxy", also=[section]) as front:
        raw = front.connect(front.ports[1], source=CLIENTS[0])
        name = (CLIENTS[0], str(raw.sock.getsockname()[1]))
        with secured(raw.sock) as client:
            for _ in range(2):
                told = environ(client)
                assert (told["REMOTE_ADDR"], told["REMOTE_PORT"]) == name
                assert told["wsgi.url_scheme"] == "https"
    for size in (1, 1000):
        plain = server.connect()
        dribble(plain, extended("203.0.113.9"), size)
        with secured(plain.sock) as client:
            assert environ(client)["REMOTE_ADDR"] == "203.0.113.9"
    # Without a header not even a handshake is begun.
    with server.connect() as plain, contextlib.suppress(ssl.SSLError):
        secured(plain.sock)
    (line,) = server.wait_log("request refused")
    assert (line["status"], line["reason"]) == (400, "proxy_protocol")
