"""httpbin, which shows clients what they sent: by curl and by requests."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.system.conftest import Combination
from tests.system.harness import Server, clean_environment

curl_here = pytest.mark.program("curl")


@pytest.fixture(scope="module")
def httpbin(combination: Combination) -> Iterator[Server]:
    """The application of the package, served as it is."""
    with combination.server("httpbin_app:app", allow_errors=True) as server:
        server.wait_workers(1)
        yield server


@pytest.fixture
def client(httpbin: Server) -> Iterator[requests.Session]:
    """requests, over TCP or the unix socket."""
    with httpbin.session() as session:
        yield session


def curl(server: Server, *args: str) -> bytes:
    """Run curl against this server; http://server is wherever it listens."""
    address = server.address
    if address.startswith("unix:"):
        route = ["--unix-socket", address.removeprefix("unix:")]
    else:
        route = ["--connect-to", f"server:80:{address.removeprefix('tcp://')}"]
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20"]
    done = subprocess.run(
        [*command, *route, *args], env=clean_environment(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def curl_json(server: Server, *args: str) -> Any:
    """Run curl and read its output as JSON."""
    return json.loads(curl(server, *args))


@curl_here
def test_curl_get(httpbin: Server) -> None:
    """Query and headers arrive as curl sent them."""
    found = curl_json(httpbin, "-H", "X-Thing: a b", "http://server/get?a=1&b=%C3%A9")

    assert found["args"] == {"a": "1", "b": "é"}
    assert found["headers"]["X-Thing"] == "a b"
    assert found["headers"]["Host"] == "server"


@curl_here
def test_curl_reuses_one_connection(httpbin: Server) -> None:
    """Five URLs over one connection."""
    urls = [f"http://server/bytes/{size}" for size in (1, 10, 100, 1000, 50_000)]
    fetch = [word for url in urls for word in ("-o", "/dev/null", url)]
    counts = curl(httpbin, "-w", "%{num_connects}\n", *fetch)

    assert [int(line) for line in counts.split()] == [1, 0, 0, 0, 0]


@curl_here
def test_curl_head(httpbin: Server) -> None:
    """-I shows status and length without a body."""
    text = curl(httpbin, "-I", "http://server/bytes/1234").decode()

    assert text.startswith("HTTP/1.1 200")
    assert "1234" in text


@curl_here
def test_curl_waits_for_100_continue(httpbin: Server, tmp_path: Path) -> None:
    """A large upload, for which curl waits for 100 Continue, without a delay of a second."""
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(2_000_000))
    out = curl(
        httpbin, "-H", "Expect: 100-continue", "--expect100-timeout", "15",
        "-H", "Content-Type: application/octet-stream", "--data-binary", f"@{path}", "-o", str(tmp_path / "answer"), "-w", "%{time_total}",
        "http://server/post",
    )  # fmt: skip
    data = json.loads((tmp_path / "answer").read_bytes())["data"]

    assert base64.b64decode(data.partition(",")[2]) == path.read_bytes()
    assert float(out) < 10


@curl_here
def test_curl_http_1_0(httpbin: Server) -> None:
    """An HTTP/1.0 client gets its answer unchunked."""
    assert curl(httpbin, "--http1.0", "http://server/stream/3").count(b"\n") == 3


@curl_here
def test_curl_form_upload(httpbin: Server, tmp_path: Path) -> None:
    """-F sends a form with a file."""
    path = tmp_path / "note.txt"
    path.write_text("a note")
    found = curl_json(httpbin, "-F", "field=value", "-F", f"file=@{path}", "http://server/post")

    assert (found["form"], found["files"]) == ({"field": "value"}, {"file": "a note"})


@curl_here
def test_curl_compressed_and_redirected(httpbin: Server) -> None:
    """--compressed and -L work through the server."""
    assert curl_json(httpbin, "--compressed", "http://server/gzip")["gzipped"] is True
    assert curl_json(httpbin, "-L", "http://server/redirect/3")["url"].endswith("/get")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_methods(client: requests.Session, method: str) -> None:
    """Each method reaches its handler, with its body."""
    body = None if method == "GET" else {"k": "v"}
    found = client.request(method, f"http://server/{method.lower()}", json=body).json()

    assert found["url"].endswith(f"/{method.lower()}")
    assert found.get("json") == body


@pytest.mark.parametrize("status", [200, 201, 204, 304, 400, 404, 418, 500, 503])
def test_statuses(client: requests.Session, status: int) -> None:
    """Statuses with and without bodies, on one connection."""
    for _ in range(2):
        answer = client.get(f"http://server/status/{status}")
        assert answer.status_code == status
    assert client.get("http://server/get").status_code == 200


def test_bodies(client: requests.Session) -> None:
    """Known lengths, streams, ranges and encodings."""
    assert len(client.get("http://server/range/100000").content) == 100_000
    assert len(client.get("http://server/stream-bytes/50000?chunk_size=1000").content) == 50_000
    assert len(client.get("http://server/stream/20").text.splitlines()) == 20
    part = client.get("http://server/range/1000", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.text) == (206, "klmnopqrst")
    assert client.get("http://server/deflate").json()["deflated"] is True
    assert client.get("http://server/image/png").content.startswith(b"\x89PNG")


def test_slow_drip(client: requests.Session) -> None:
    """Bytes that the application makes slowly come one by one."""
    answer = client.get("http://server/drip?duration=0.5&numbytes=5&delay=0", stream=True)

    assert b"".join(answer.iter_content(1)) == b"*****"


def test_redirects_and_cookies(client: requests.Session) -> None:
    """What a session needs."""
    assert len(client.get("http://server/redirect/4").history) == 4
    client.get("http://server/cookies/set?a=1")
    assert client.get("http://server/cookies").json() == {"cookies": {"a": "1"}}
    assert client.get("http://server/basic-auth/u/p", auth=("u", "p")).status_code == 200
    assert client.get("http://server/basic-auth/u/p").status_code == 401


def test_conditional_requests(client: requests.Session) -> None:
    """ETags give 304 and 412."""
    match, none = {"If-Match": '"x"'}, {"If-None-Match": '"x"'}

    assert client.get("http://server/etag/x", headers=none).status_code == 304
    assert client.get("http://server/etag/y", headers=match).status_code == 412
