"""The clients: wrk for load, and two small ones for what wrk does not do.

wrk runs on a core of its own choosing by `taskset`, with one thread. Its script prints the result
as JSON. The clients in Python open idle connections and time the first response of a server.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("load.lua")
TIMEOUT_S = 10.0

# What a browser sends for a page.
BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding: gzip, deflate, br",
    "Cookie: sessionid=0123456789abcdef0123456789abcdef; theme=dark",
    "Upgrade-Insecure-Requests: 1",
    "Cache-Control: max-age=0",
)


class LoadError(Exception):
    """The load could not be made; the text is for the report."""


@dataclass(frozen=True)
class Stream:
    """One wrk: so many connections that ask for one path again and again."""

    path: str = "/"
    connections: int = 32
    headers: tuple[str, ...] = BROWSER
    method: str = "GET"
    body_bytes: int = 0


@dataclass(frozen=True)
class Placed:
    """A stream, the core on which its wrk runs, and the server that it asks."""

    stream: Stream
    core: int
    port: int


@dataclass(frozen=True)
class Outcome:
    """What one wrk has seen."""

    requests: int
    duration_s: float
    received_bytes: int
    p50_ms: float
    p99_ms: float
    failures: int


def wrk_command(placed: Placed, seconds: int) -> list[str]:
    """The command line of this stream."""
    stream = placed.stream
    return [
        *("taskset", "-c", str(placed.core)),
        *("wrk", "-t1", f"-c{stream.connections}", f"-d{seconds}s", "--timeout", "30s"),
        *("-s", str(SCRIPT)),
        *(part for header in stream.headers for part in ("-H", header)),
        f"http://127.0.0.1:{placed.port}{stream.path}",
        *("--", stream.method, str(stream.body_bytes)),
    ]


def outcome(output: str) -> Outcome:
    """Read the line of JSON in wrk's output."""
    for line in output.splitlines():
        if line.startswith("{"):
            seen = json.loads(line)
            return Outcome(
                requests=seen["requests"],
                duration_s=seen["duration_us"] / 1e6,
                received_bytes=seen["bytes"],
                p50_ms=seen["p50_us"] / 1e3,
                p99_ms=seen["p99_us"] / 1e3,
                failures=seen["failures"],
            )
    raise LoadError(f"wrk: {output.strip().splitlines()[-1] if output.strip() else 'no output'}")


def ask(streams: Sequence[Placed], seconds: int) -> list[Outcome]:
    """Run these streams at the same time."""
    clients = [
        subprocess.Popen(
            wrk_command(placed, seconds),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        for placed in streams
    ]
    try:
        outputs = [client.communicate(timeout=seconds + 60)[0] for client in clients]
    except subprocess.TimeoutExpired as error:
        raise LoadError("wrk did not end") from error
    finally:
        for client in clients:
            client.kill()
            client.wait()
    return [outcome(output) for output in outputs]


def fetch(sock: socket.socket, path: str = "/") -> bytes:
    """One GET on an open connection: the response, of which the length is announced."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    received = b""
    while True:
        data = sock.recv(65536)
        if not data:
            raise LoadError("the connection was closed within a response")
        received += data
        head, separator, body = received.partition(b"\r\n\r\n")
        if separator and len(body) >= content_length(head):
            if not head.startswith(b"HTTP/1.1 200"):
                raise LoadError(head.split(b"\r\n")[0].decode("latin-1"))
            return body


def content_length(head: bytes) -> int:
    """The announced length; 0 without one, for servers that end a response by closing."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def first_response(port: int, deadline: float) -> float:
    """Try until the server answers; the instant it did."""
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as sock:
                fetch(sock)
                return time.monotonic()
        except (ConnectionError, LoadError):
            time.sleep(0.001)
    raise LoadError("no response in time")


@contextmanager
def idle_connections(port: int, count: int) -> Iterator[None]:
    """Hold so many connections open, each of which has been served once."""
    sockets: list[socket.socket] = []
    try:
        for number in range(count):
            try:
                sock = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
                sockets.append(sock)
                fetch(sock)
            except (OSError, LoadError) as error:
                raise LoadError(f"connection {number + 1} of {count}: {error}") from error
        yield
    finally:
        for sock in sockets:
            sock.close()
