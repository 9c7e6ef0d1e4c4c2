"""Thousands of clients that take their time: slow heads, slow bodies, slow readers.

One thread with an event loop of its own, or one process (`python -m tests.system.chaos.crowd`)
where the load beside it is measured.  A slow client that the server gives up comes back at once,
so the crowd keeps its size.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import resource
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.system.client import build_request

KINDS = ("head", "body", "read")
BLOB = 1_000_000
# Little enough that a response of that size waits at the server.
_RECEIVE_BUFFER = 4096


@dataclass
class Seen:
    """What the crowd has met, by the loop's thread."""

    open: int = 0
    connected: int = 0
    given_up: int = 0
    """By the server, as it should in the end."""
    refused: int = 0


class Crowd:
    """So many slow clients of each kind."""

    def __init__(
        self, address: str, each: int, interval_s: float = 1.0, kinds: Sequence[str] = KINDS
    ) -> None:
        """They send or take a byte each interval, not all at the same time."""
        self.seen = Seen()
        self.size = each * len(kinds)
        self._kinds = kinds
        self._address = address
        self._each = each
        self._interval_s = interval_s
        self._loop = asyncio.new_event_loop()
        self._main: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Let them come."""
        self._thread.start()

    def stop(self) -> None:
        """All leave."""
        self._loop.call_soon_threadsafe(self._cancel)
        self._thread.join()

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._gather())
        finally:
            self._loop.close()

    async def _gather(self) -> None:
        self._main = asyncio.current_task()
        clients = [
            asyncio.create_task(self._client(kind))
            for _ in range(self._each)
            for kind in self._kinds
        ]
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _client(self, kind: str) -> None:
        await asyncio.sleep(random.random() * self._interval_s)
        while True:
            try:
                sock = await self._connect()
            except OSError:
                self.seen.refused += 1
                await asyncio.sleep(self._interval_s)
                continue
            self.seen.connected += 1
            self.seen.open += 1
            try:
                await self._dawdle(sock, kind)
            except OSError:
                pass
            finally:
                self.seen.open -= 1
                sock.close()
            self.seen.given_up += 1

    async def _connect(self) -> socket.socket:
        unix = self._address.startswith("unix:")
        sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        try:
            if unix:
                await self._loop.sock_connect(sock, self._address.removeprefix("unix:"))
            else:
                host, _, port = self._address.removeprefix("tcp://").rpartition(":")
                await self._loop.sock_connect(sock, (host, int(port)))
        except BaseException:
            sock.close()
            raise
        return sock

    async def _dawdle(self, sock: socket.socket, kind: str) -> None:
        """Until the server has had enough."""
        loop = self._loop
        if kind == "read":
            await loop.sock_sendall(sock, build_request("GET", f"/blob?n={BLOB}"))
            while await loop.sock_recv(sock, 1):
                await asyncio.sleep(self._interval_s)
            return
        if kind == "body":
            start = build_request("POST", "/upload", {"Content-Length": "1000000"})
            await loop.sock_sendall(sock, start)
            rest = b"x" * 1000
        else:
            rest = build_request("GET", "/t", {f"X-{number}": "slow" for number in range(90)})
        ended = asyncio.ensure_future(loop.sock_recv(sock, 1))
        try:
            for index in range(len(rest)):
                await loop.sock_sendall(sock, rest[index : index + 1])
                await asyncio.wait([ended], timeout=self._interval_s)
                if ended.done():
                    ended.result()
                    return
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)


@contextlib.contextmanager
def crowd(
    address: str, each: int, interval_s: float = 1.0, kinds: Sequence[str] = KINDS
) -> Iterator[Crowd]:
    """A crowd during a with block."""
    clients = Crowd(address, each, interval_s, kinds)
    clients.start()
    try:
        yield clients
    finally:
        clients.stop()


def main() -> int:
    """Be a crowd in a process of its own, until standard input ends; tell its size each second."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("address")
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with crowd(options.address, options.each, options.interval, options.kinds) as clients:
        ended = threading.Event()

        def listen() -> None:
            sys.stdin.read()
            ended.set()

        threading.Thread(target=listen, daemon=True).start()
        while not ended.wait(1.0):
            seen = clients.seen
            print(seen.open, seen.connected, seen.given_up, seen.refused, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
