"""Behind real front ends, over TCP and a unix socket: what clients see, and what reaches the server."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.system import fronts
from tests.system.conftest import Combination
from tests.system.harness import Server

FRONTS: dict[str, Any] = {"nginx": fronts.nginx, "haproxy": fronts.haproxy, "apache": fronts.apache}

# Each front end on both kinds of socket; each parser behind two of the three.
CASES = [
    pytest.param(case, marks=pytest.mark.program(program), id=f"{case[0]}-{case[1]}")
    for program, case in (
        ("nginx", ("nginx", "tcp", "httptools")),
        ("nginx", ("nginx", "unix", "h11")),
        ("haproxy", ("haproxy", "tcp", "h11")),
        ("haproxy", ("haproxy", "unix", "httptools")),
        ("apache2", ("apache", "tcp", "httptools")),
        ("apache2", ("apache", "unix", "h11")),
    )
]
CLIENT = "127.0.0.5"


@dataclass
class Behind:
    """A server with a front end before it."""

    server: Server
    front: fronts.Front
    name: str
    transport: str


@pytest.fixture(scope="module", params=CASES)
def behind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    """Servers on unix sockets take the client's address from X-Forwarded-For."""
    name, transport, parser = request.param
    folder = tmp_path_factory.mktemp(name)
    options = ["--forwarded-client", "x-forwarded-for"] if transport == "unix" else []
    with contextlib.ExitStack() as stack:
        sockets = stack.enter_context(fronts.socket_folder())
        server = stack.enter_context(
            Combination(parser, transport, "gthread", sockets).server(
                "behaviours:app", *options, workers=1, threads=4, metrics=True
            )
        )
        front = stack.enter_context(FRONTS[name](folder, server.address))
        yield Behind(server, front, name, transport)
        # A front end that met a closed connection says so.
        errors = front.report()
        assert "upstream" not in errors and "AH0" not in errors.replace("AH00", ""), errors


def test_requests_go_through(behind: Behind) -> None:
    """Answers with a length, in chunks and without a body pass unharmed."""
    url = behind.front.url
    with requests.Session() as client:
        assert client.get(f"{url}/hello").text == "hello\n"
        assert client.get(f"{url}/pieces?n=20&size=5000").content.count(b"7") == 10_000
        assert client.get(f"{url}/status?code=204+No+Content").status_code == 204
        assert client.get(f"{url}/not_modified").status_code == 304
        assert client.head(f"{url}/blob?n=100").headers["Content-Length"] == "100"


def test_uploads_go_through(behind: Behind) -> None:
    """Bodies with a length and in chunks."""

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_001

    url = f"{behind.front.url}/size"
    assert requests.post(url, data=b"y" * 5_000_000, timeout=20).text == "5000000"
    assert requests.post(url, data=pieces(), timeout=20).text == "1000100"


def test_a_stream_is_passed_on_as_it_comes(behind: Behind, tmp_path: Path) -> None:
    """The first piece is with the client before the second is made."""
    until = tmp_path / "go"
    with requests.get(
        f"{behind.front.url}/drip", params={"until": str(until)}, stream=True, timeout=20
    ) as response:
        pieces = response.iter_content(None)
        assert next(pieces) == b"first\n"
        until.touch()
        assert b"".join(pieces) == b"second\n"


def test_scheme_and_client_address(behind: Behind) -> None:
    """REMOTE_ADDR is the peer, or, when that is asked for, the client whatever it says itself."""
    lies = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9;proto=http"}
    with behind.front.connect(source=CLIENT) as client:
        client.request("GET", "/environ_json", lies)
        environ = json.loads(client.response().body)

    assert environ["wsgi.url_scheme"] == "https"
    assert environ["REMOTE_ADDR"] == ("127.0.0.1" if behind.transport == "tcp" else CLIENT)
    said = [part.strip() for part in environ["HTTP_X_FORWARDED_FOR"].split(",")]
    assert said == ["203.0.113.9", CLIENT]
    assert environ["HTTP_FORWARDED"].startswith(f'for="{CLIENT}')


def test_a_clients_word_on_the_scheme_does_not_pass(behind: Behind) -> None:
    """The front end's replaces it; a second field that contradicts it is refused."""
    with behind.front.connect() as client:
        client.request("GET", "/environ_json", {"X-Forwarded-Proto": "http"})
        environ = json.loads(client.response().body)
        assert environ["wsgi.url_scheme"] == "https"
        client.request("GET", "/environ_json", {"X-Forwarded-Ssl": "off"})
        assert client.response().status == 400


def test_connections_to_the_server_are_used_again(behind: Behind) -> None:
    """Fifty requests of one client do not make fifty connections."""
    before = behind.server.sample("gthreadsrv_connections_accepted_total")
    with requests.Session() as client:
        for _ in range(50):
            assert client.get(f"{behind.front.url}/hello").status_code == 200

    assert behind.server.sample("gthreadsrv_connections_accepted_total") - before <= 8


def test_an_upgrade_is_not_taken_up(behind: Behind) -> None:
    """RFC 9110 7.8: a server may ignore it; the connection goes on in HTTP/1.1."""
    fields = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
              "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
    with behind.front.connect() as client:
        client.request("GET", "/hello", fields)
        assert client.response().text == "hello\n"
        client.request("GET", "/hello")
        assert client.response().text == "hello\n"


@pytest.mark.program("wrk")
@pytest.mark.parametrize("behind", CASES[:2], indirect=True)
def test_load_through_nginx_has_no_failures(behind: Behind) -> None:
    """Two seconds of wrk: no socket error, no status but 200."""
    load(behind.front.url)


@pytest.mark.program("wrk")
@pytest.mark.parametrize("behind", [CASES[0], CASES[2]], indirect=True)
def test_load_without_a_front_end_has_no_failures(behind: Behind) -> None:
    """The same on TCP, with each parser."""
    load(behind.server.base_url)


def load(url: str) -> None:
    """Two seconds of wrk that must not fail."""
    done = subprocess.run(
        ["wrk", "-t1", "-c16", "-d2s", f"{url}/hello"], capture_output=True, text=True, check=True
    )
    assert "Requests/sec" in done.stdout
    assert "Socket errors" not in done.stdout, done.stdout
    assert "Non-2xx" not in done.stdout, done.stdout
