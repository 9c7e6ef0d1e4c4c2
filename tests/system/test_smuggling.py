"""Smuggling through real front ends: the server never sees a request that they did not send.

Each attempt is a stream of bytes with a second request hidden where one reader of HTTP might
find its end and another not. The front ends write down what they have sent on, the server
what it has read; the second must not hold anything that the first does not.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.system import fronts
from tests.system.conftest import Combination
from tests.system.harness import Server, wait_until

pytestmark = [pytest.mark.program("nginx", "haproxy")]

PROXIES = ("nginx", "haproxy")
CHUNKED = "Transfer-Encoding: chunked"


def post(*fields: str, body: str = "", minor: int = 1, end: str = "\r\n") -> str:
    """A POST with these fields; {hidden} in it stands for the request that is smuggled."""
    head = [f"POST /environ_json?{{name}} HTTP/1.{minor}", "Host: a", *fields, "", ""]
    return end.join(head) + body


def te(field: str) -> str:
    """A chunked body that ends before the hidden request, if this field says so."""
    return post(field, "Content-Length: {length}", body="0\r\n\r\n{hidden}")


ATTEMPTS = {
    # Both lengths.
    "cl.te": post("Content-Length: {length}", CHUNKED, body="0\r\n\r\n{hidden}"),
    "te.cl": post(CHUNKED, "Content-Length: 4", body="{size:x}\r\n{hidden}\r\n0\r\n\r\n"),
    "te.cl-short": post(CHUNKED, "Content-Length: 3", body="0\r\n\r\n{hidden}"),
    "te-1.0": post(CHUNKED, body="0\r\n\r\n{hidden}", minor=0),
    "te-1.0-keep": post(CHUNKED, "Connection: keep-alive", body="0\r\n\r\n{hidden}", minor=0),
    # Transfer-Encoding that one reader takes for one and another does not.
    "te-twice": te(f"{CHUNKED}\r\n{CHUNKED}"),
    "te-then-other": te(f"{CHUNKED}\r\nTransfer-Encoding: x"),
    "other-then-te": te(f"Transfer-Encoding: x\r\n{CHUNKED}"),
    "te-identity": te("Transfer-Encoding: identity"),
    "te-list": te("Transfer-Encoding: identity, chunked"),
    "te-list-last": te("Transfer-Encoding: chunked, identity"),
    "te-list-twice": te("Transfer-Encoding: chunked, chunked"),
    "te-comma": te("Transfer-Encoding: chunked,"),
    "te-gzip": te("Transfer-Encoding: gzip, chunked"),
    "te-x": te("Transfer-Encoding: xchunked"),
    "te-quoted": te('Transfer-Encoding: "chunked"'),
    "te-case": te("transfer-ENCODING: cHuNkEd"),
    "te-tab": te("Transfer-Encoding:\tchunked"),
    "te-vt": te("Transfer-Encoding: \x0bchunked"),
    "te-ff": te("Transfer-Encoding:\x0cchunked"),
    "te-nul": te("Transfer-Encoding: chunked\0"),
    "te-nbsp": te("Transfer-Encoding:\xa0chunked"),
    "te-blank-before": te(" Transfer-Encoding: chunked"),
    "te-blank-colon": te("Transfer-Encoding : chunked"),
    "te-tab-colon": te("Transfer-Encoding\t: chunked"),
    "te-underscore": te("Transfer_Encoding: chunked"),
    "te-in-value": te("X: y\nTransfer-Encoding: chunked"),
    "te-cr": te("X: y\rTransfer-Encoding: chunked"),
    "te-folded": te("Transfer-Encoding:\r\n chunked"),
    "te-fold-name": te("Transfer-Encoding\r\n : chunked"),
    "te-fold-list": te("Transfer-Encoding: chunked\r\n , x"),
    "te-param": te("Transfer-Encoding: chunked;q=1"),
    "te-te": te("TE: chunked"),
    "te-connection": te(f"{CHUNKED}\r\nConnection: transfer-encoding"),
    "te-trailer": post(CHUNKED, body="0\r\nContent-Length: 5\r\n\r\n{hidden}"),
    # Content-Length that one reader takes for one and another does not.
    "cl-twice": post("Content-Length: 0", "Content-Length: {size}", body="{hidden}"),
    "cl-twice-other": post("Content-Length: {size}", "Content-Length: 0", body="{hidden}"),
    "cl-list": post("Content-Length: 0, {size}", body="{hidden}"),
    "cl-plus": post("Content-Length: +{size}", body="{hidden}"),
    "cl-minus": post("Content-Length: -1", body="{hidden}"),
    "cl-hex": post("Content-Length: 0x{size:x}", body="{hidden}"),
    "cl-zeros": post("Content-Length: 000{size}", body="{hidden}"),
    "cl-blank": post("Content-Length: {size} 0", body="{hidden}"),
    "cl-blank-colon": post("Content-Length : {size}", body="{hidden}"),
    "cl-empty": post("Content-Length:", body="{hidden}"),
    "cl-underscore": post("Content_Length: {size}", body="{hidden}"),
    "cl-folded": post("Content-Length:\r\n {size}", body="{hidden}"),
    "cl-connection": post("Content-Length: {size}", "Connection: content-length", body="{hidden}"),
    "cl-get": "GET /environ_json?{name} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{hidden}",
    "cl-short": post("Content-Length: 0", body="{hidden}"),
    "none": post(body="{hidden}"),
    # Chunks.
    "chunk-extension": post(CHUNKED, body="1;a=b\r\nx\r\n0\r\n\r\n{hidden}"),
    "chunk-extension-lf": post(CHUNKED, body="1;a\nx\r\n0\r\n\r\n{hidden}"),
    "chunk-extension-cr": post(CHUNKED, body="1;a\rb\r\nx\r\n0\r\n\r\n{hidden}"),
    "chunk-extension-quote": post(CHUNKED, body='1;a="\r\n\r\n{hidden}"\r\nx\r\n0\r\n\r\n'),
    "chunk-extension-last": post(CHUNKED, body="0;a=b\r\n\r\n{hidden}"),
    "chunk-lf": post(CHUNKED, body="1\nx\n0\n\n{hidden}"),
    "chunk-hex": post(CHUNKED, body="0x0\r\n\r\n{hidden}"),
    "chunk-plus": post(CHUNKED, body="+0\r\n\r\n{hidden}"),
    "chunk-blank": post(CHUNKED, body="0 \r\n\r\n{hidden}"),
    "chunk-before": post(CHUNKED, body=" 0\r\n\r\n{hidden}"),
    "chunk-underscore": post(CHUNKED, body="0_0\r\n\r\n{hidden}"),
    "chunk-huge": post(CHUNKED, body="ffffffffffffffff1\r\nx\r\n0\r\n\r\n{hidden}"),
    "chunk-wraps": post(CHUNKED, body="100000000\r\n{hidden}"),
    "chunk-zeros": post(CHUNKED, body="000000000000000000000\r\n\r\n{hidden}"),
    "chunk-long": post(CHUNKED, body="1\r\nxx\r\n0\r\n\r\n{hidden}"),
    "chunk-no-crlf": post(CHUNKED, body="1\r\nx0\r\n\r\n{hidden}"),
    "chunk-empty": post(CHUNKED, body="\r\n0\r\n\r\n{hidden}"),
    # Line ends, folds and names.
    "lf": post("X: y", body="{hidden}", end="\n"),
    "lf-head": "POST /environ_json?{name} HTTP/1.1\r\nHost: a\nContent-Length: {size}\r\n\r\n{hidden}",
    "lf-end": "POST /environ_json?{name} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\n\n{hidden}",
    "lf-early": "GET /environ_json?{name} HTTP/1.1\r\nHost: a\r\nX: \n\n{hidden}\r\n\r\n",
    "cr-early": "GET /environ_json?{name} HTTP/1.1\r\nHost: a\r\nX: \r\r{hidden}\r\n\r\n",
    "fold": "GET /environ_json?{name} HTTP/1.1\r\nHost: a\r\nX: y\r\n {hidden}\r\n\r\n",
    "fold-first": "GET /environ_json?{name} HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n{hidden}",
    "no-colon": post("X", "Content-Length: {size}", body="{hidden}"),
    "empty-name": post(": y", "Content-Length: {size}", body="{hidden}"),
    "line-tab": "GET\t/environ_json?{name}\tHTTP/1.1\r\nHost: a\r\n\r\n{hidden}",
    "line-extra": "GET /environ_json?{name} HTTP/1.1 x\r\nHost: a\r\n\r\n{hidden}",
    "line-hidden": "GET /environ_json?{name}\rGET HTTP/1.1\r\nHost: a\r\n\r\n{hidden}",
    "version-0.9": "GET /environ_json?{name}\r\n{hidden}",
    "version-1.2": "GET /environ_json?{name} HTTP/1.2\r\nHost: a\r\n\r\n{hidden}",
    "absolute": "GET http://b/environ_json?{name} HTTP/1.1\r\nHost: a\r\n\r\n{hidden}",
    # Requests in a row, as they may come.
    "pipelined": "GET /environ_json?{name} HTTP/1.1\r\nHost: a\r\n\r\n{hidden}",
    "pipelined-lines": "\r\nGET /environ_json?{name} HTTP/1.1\r\nHost: a\r\n\r\n\r\n{hidden}",
    "pipelined-body": post("Content-Length: 3", body="abc{hidden}"),
    "expect": post("Content-Length: {size}", "Expect: 100-continue", body="{hidden}"),
    "expect-chunked": post(CHUNKED, "Expect: 100-continue", body="0\r\n\r\n{hidden}"),
    "upgrade": "GET /environ_json?{name} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\n\r\n{hidden}",
    "h2c": "GET /environ_json?{name} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n{hidden}",
    "connect": "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n{hidden}",
}


def stream(name: str, front: str) -> bytes:
    """The bytes of an attempt through a front end."""
    hidden = f"GET /environ_json?hidden-{name}-{front} HTTP/1.1\r\nHost: a\r\n\r\n"
    filled = ATTEMPTS[name].format(
        hidden=hidden, name=f"{name}-{front}", size=len(hidden), length=len(hidden) + 5
    )
    return filled.encode("latin-1")


@pytest.fixture(scope="module", params=["h11", "httptools"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The server behind both, with an access log."""
    folder = tmp_path_factory.mktemp("smuggling")
    with Combination(request.param, "tcp", "gthread", folder).server(
        "behaviours:app", "--access-logfile", str(folder / "access.log"),
        "--header-timeout", "1", "--body-timeout", "1", metrics=True, workers=1, threads=4,
    ) as server:  # fmt: skip
        yield server


def try_it(front: fronts.Front, data: bytes) -> bytes:
    """Send it, and return all that comes back until the front end closes."""
    got = b""
    with front.connect() as client, contextlib.suppress(OSError):
        client.send(data)
        client.sock.settimeout(20)
        while piece := client.sock.recv(65536):
            got += piece
    return got


def seen(folder: Path) -> list[str]:
    """What the server has read, requests it has refused included."""
    lines = [json.loads(line) for line in (folder / "access.log").read_text().splitlines()]
    return [f"{line['method']} {line['target']}" for line in lines if line["method"]]


def unsent(server: Server, sent: list[str]) -> list[str]:
    """What the server has seen more often than it was sent."""
    return list((Counter(seen(server.cwd)) - Counter(sent)).elements())


def test_the_server_sees_only_what_was_sent(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every attempt, through both front ends; and honest requests behind them get their answers."""
    folders = {name: tmp_path_factory.mktemp(name) for name in PROXIES}
    with contextlib.ExitStack() as stack:
        running = {
            name: stack.enter_context(
                getattr(fronts, name)(folders[name], server.address, patience_s=1)
            )
            for name in PROXIES
        }
        with ThreadPoolExecutor(96) as threads:
            for name, front in running.items():
                for attempt in ATTEMPTS:
                    threads.submit(try_it, front, stream(attempt, name))
        # A connection to the server with something left on it would answer one of these wrongly.
        for name, front in running.items():
            for number in range(12):
                with front.connect() as client:
                    client.request("GET", f"/environ_json?after-{number}-{name}")
                    told = json.loads(client.response().body)
                    assert told["RAW_URI"] == f"/environ_json?after-{number}-{name}"
    # Then everything that was on them has been read.
    wait_until(lambda: server.sample("gthreadsrv_connections") == 0, what="connections to end")

    def told() -> list[str]:
        return [line for front in running.values() for line in front.sent()]

    # HAProxy writes its line some time after the last byte.
    wait_until(lambda: unsent(server, told()) == [], what="each request to be one that was sent")
    sent = told()
    # The attempts did go through as far as the front ends let them, and a request that nobody
    # has sent would have been noticed.
    for name in PROXIES:
        assert f"GET /environ_json?hidden-pipelined-{name}" in sent
        assert f"POST /environ_json?chunk-extension-{name}" in sent
    with server.connect() as client:
        client.get("/environ_json?by-itself")
    wait_until(lambda: unsent(server, sent) == ["GET /environ_json?by-itself"], what="the log")


def test_a_hidden_request_would_be_seen(server: Server) -> None:
    """The attempts are real: a reader that stops at the first of two lengths finds the second."""
    with socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2]))) as sock:
        sock.settimeout(20)
        sock.sendall(stream("cl-short", "nobody"))
        got = b""
        while got.count(b"HTTP/1.1 200") < 2:
            got += sock.recv(65536)
    wait_until(lambda: "GET /environ_json?hidden-cl-short-nobody" in seen(server.cwd), what="log")
