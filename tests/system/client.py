"""A small, strict HTTP/1.1 client over raw sockets.

Independent of the server's own HTTP code and of any library's leniency: a response that
is framed wrongly, carries a body where none may be, or is followed by stray bytes, makes
the test fail.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType


class ClosedError(AssertionError):
    """The server closed the connection where a response was expected."""


@dataclass
class Response:
    """One response as it came over the wire."""

    status: int
    reason: str
    minor: int
    headers: list[tuple[str, str]]
    body: bytes
    chunked: bool
    chunks: int

    def header(self, name: str) -> str | None:
        """A field's value; None without it; an error when it came twice."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class Connection:
    """One client connection."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket with its timeout."""
        self.sock = sock
        self._buffer = b""

    def __enter__(self) -> Connection:  # noqa: PYI034 - typing.Self came with 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send all these bytes."""
        self.sock.sendall(data)

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
        minor: int = 1,
    ) -> None:
        """Send one request; Host and Content-Length are added where they are needed."""
        self.send(build_request(method, target, headers, body, minor))

    def get(self, target: str, method: str = "GET") -> Response:
        """One request without a body, and its response."""
        self.request(method, target)
        return self.response(method)

    def response(self, method: str = "GET") -> Response:
        """Read one response to a request of that method."""
        status_line = self._line()
        version, _, rest = status_line.partition(b" ")
        code, _, reason = rest.partition(b" ")
        assert version in (b"HTTP/1.1", b"HTTP/1.0"), status_line
        assert len(code) == 3 and code.isdigit(), status_line
        headers = self._headers()
        status = int(code)
        response = Response(
            status, reason.decode("latin-1"), int(version[-1:]), headers, b"", False, 0
        )
        length, coding = response.header("Content-Length"), response.header("Transfer-Encoding")
        assert length is None or coding is None, f"both framings: {headers}"
        if status == 204 or status < 200:
            assert length is None and coding is None, f"framing on a {status}: {headers}"
            return response
        if method == "HEAD" or status == 304:
            return response
        if coding is not None:
            assert coding == "chunked", coding
            response.chunked = True
            self._chunked(response)
        elif length is not None:
            assert length.isdigit(), length
            response.body = self._exactly(int(length))
        else:
            response.body = self._to_end()
        return response

    def expect_close(self) -> None:
        """The server must close the connection now, with no further byte and no reset."""
        rest = self._buffer + self.sock.recv(65536)
        assert rest == b"", f"stray bytes before the close: {rest[:200]!r}"

    def expect_silence(self) -> None:
        """Nothing may have come that was not asked for."""
        assert self._buffer == b"", f"stray bytes: {self._buffer[:200]!r}"
        self.sock.setblocking(False)
        try:
            rest = self.sock.recv(65536)
        except BlockingIOError:
            return
        finally:
            self.sock.setblocking(True)
            self.sock.settimeout(10)
        raise AssertionError(f"stray bytes or a close: {rest[:200]!r}")

    def _fill(self) -> None:
        data = self.sock.recv(262144)
        if not data:
            raise ClosedError(f"closed in the middle of a response: {self._buffer[:200]!r}")
        self._buffer += data

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._fill()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        assert b"\r" not in line and b"\n" not in line, line
        return line

    def _headers(self) -> list[tuple[str, str]]:
        headers = []
        while line := self._line():
            name, colon, value = line.decode("latin-1").partition(":")
            assert colon and name and name == name.strip(), line
            headers.append((name, value.strip(" \t")))
        return headers

    def _exactly(self, size: int) -> bytes:
        parts = [self._buffer]
        have = len(self._buffer)
        while have < size:
            data = self.sock.recv(262144)
            if not data:
                raise ClosedError(f"closed after {have} of {size} body bytes")
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self._buffer = whole[size:]
        return whole[:size]

    def _chunked(self, response: Response) -> None:
        parts = []
        while True:
            size = int(self._line(), 16)
            if size == 0:
                break
            parts.append(self._exactly(size))
            response.chunks += 1
            assert self._line() == b""
        assert self._headers() == [], "trailers were not asked for"
        response.body = b"".join(parts)

    def _to_end(self) -> bytes:
        parts = [self._buffer]
        while data := self.sock.recv(262144):
            parts.append(data)
        self._buffer = b""
        return b"".join(parts)


def build_request(
    method: str,
    target: str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    minor: int = 1,
) -> bytes:
    """The bytes of one request."""
    fields = list(headers.items() if isinstance(headers, Mapping) else headers)
    names = {name.lower() for name, _ in fields}
    if "host" not in names:
        fields.insert(0, ("Host", "server"))
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        fields.append(("Content-Length", str(len(body))))
    head = f"{method} {target} HTTP/1.{minor}\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in fields
    )
    return head.encode("latin-1") + b"\r\n" + (body or b"")


def chunked(pieces: Iterable[bytes], trailer: bytes = b"") -> bytes:
    """A chunked body of these pieces."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + (
        b"0\r\n" + trailer + b"\r\n"
    )


def dribble(connection: Connection, data: bytes, size: int = 1, pause_s: float = 0.0) -> None:
    """Send bytes in small pieces, each in a packet of its own."""
    for start in range(0, len(data), size):
        connection.send(data[start : start + size])
        if pause_s:
            time.sleep(pause_s)
