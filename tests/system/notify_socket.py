"""A service manager's end of the notification protocol: what a server tells systemd."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.system.harness import wait_until


class NotifySocket:
    """Collects datagrams with the time and the sender of each."""

    def __init__(self, name: str) -> None:
        """`name` is as in NOTIFY_SOCKET: a path, or @ and an abstract name."""
        self.name = name
        self.messages: list[tuple[float, int, list[str]]] = []
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._sock.bind("\0" + name[1:] if name.startswith("@") else name)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            data, control, _, _ = self._sock.recvmsg(4096, socket.CMSG_SPACE(12))
            pid = int.from_bytes(control[0][2][:4], "little")
            if not data:
                return
            self.messages.append((time.monotonic(), pid, data.decode().split("\n")))

    def said(self, word: str, pid: int | None = None) -> list[tuple[float, int, list[str]]]:
        """The messages so far with this line, or with a line that starts with it and `=`."""
        return [
            message
            for message in list(self.messages)
            if pid in (None, message[1])
            and any(line == word or line.startswith(f"{word}=") for line in message[2])
        ]

    def wait(
        self, word: str, count: int = 1, pid: int | None = None
    ) -> list[tuple[float, int, list[str]]]:
        """Wait until it was said so many times."""

        def enough() -> list[tuple[float, int, list[str]]] | None:
            found = self.said(word, pid)
            return found if len(found) >= count else None

        return wait_until(enough, 40.0, f"{count} x {word}: {self.messages}")

    def close(self) -> None:
        """No more."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", "\0" + self.name[1:] if self.name.startswith("@") else self.name)
        self._thread.join(10)
        self._sock.close()


@contextmanager
def notify_socket(name: str) -> Iterator[NotifySocket]:
    """Listen during a with block."""
    listener = NotifySocket(name)
    try:
        yield listener
    finally:
        listener.close()
