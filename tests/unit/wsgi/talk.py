"""An exchange with an application, and what its client sees of it."""

from __future__ import annotations

import os
from typing import Any

from gthreadsrv.http.request import RequestHead
from gthreadsrv.http.response import HeadEncoder
from gthreadsrv.wsgi.exchange import Exchange

ENCODER = HeadEncoder("test")


class Sink:
    """Takes bytes as the wire does, and remembers each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.data = b""
        self.error: Exception | None = None

    def _take(self, data: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.data += data

    def send(self, data: bytes) -> None:
        self.calls.append(("send", len(data)))
        self._take(data)

    def send_pair(self, first: bytes, second: bytes) -> None:
        self.calls.append(("send_pair", len(first), len(second)))
        self._take(first + second)

    def send_file(self, head: bytes, fd: int, offset: int, count: int) -> None:
        self.calls.append(("send_file", count))
        self._take(head + os.pread(fd, count, offset))

    @property
    def head(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]


class Talk:
    """An exchange, its sink, and what the client sees."""

    def __init__(self, method: str = "GET", minor: int = 1, *, keep_alive: bool = True) -> None:
        head = RequestHead(method, "/", minor, [], -1, False, keep_alive, False, "/", "", b"a")
        self.sink = Sink()
        self.exchange = Exchange(head, self.sink, ENCODER, 0, keep_alive)
        self.start = self.exchange.start_response
        self.write = self.exchange.write
        self.send = self.exchange.send_result

    @property
    def chunks(self) -> bytes:
        """The body decoded from the chunked coding; it must be whole."""
        assert b"\r\nTransfer-Encoding: chunked" in self.sink.head
        body, out = self.sink.body, b""
        while True:
            size, _, body = body.partition(b"\r\n")
            length = int(size, 16)
            if not length:
                assert body == b"\r\n"
                return out
            out, body = out + body[:length], body[length:]
            assert body[:2] == b"\r\n"
            body = body[2:]
