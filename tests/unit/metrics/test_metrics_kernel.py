"""What the kernel tells about listeners, on real sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gthreadsrv_metrics import kernel

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")


@contextlib.contextmanager
def tcp(backlog: int) -> Iterator[socket.socket]:
    """A TCP listener on loopback."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(backlog)
        yield listener


@linux
def test_tcp_backlog_counts_what_nobody_accepted() -> None:
    """Each completed connection is one in the queue until it is accepted."""
    with tcp(5) as listener, contextlib.ExitStack() as stack:
        assert kernel.backlog(listener.fileno()) == kernel.Backlog(0, 5)
        for _ in range(3):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        assert kernel.backlog(listener.fileno()) == kernel.Backlog(3, 5)
        stack.enter_context(listener.accept()[0])
        assert kernel.backlog(listener.fileno()) == kernel.Backlog(2, 5)


@linux
def test_tcp_drops_count_an_overflow() -> None:
    """More connections than the queue takes are dropped and counted."""
    with tcp(1) as listener, contextlib.ExitStack() as stack:
        assert kernel.drops(listener.fileno()) == 0
        for _ in range(6):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(listener.getsockname())
        assert (kernel.drops(listener.fileno()) or 0) > 0


@linux
def test_unix_backlog_by_sock_diag(tmp_path: Path) -> None:
    """A unix listener's queue and limit are told too; it has no drops."""
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(str(tmp_path / "s"))
        listener.listen(7)
        for _ in range(2):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(tmp_path / "s"))
        assert kernel.backlog(listener.fileno()) == kernel.Backlog(2, 7)
        assert kernel.drops(listener.fileno()) is None


@linux
def test_a_socket_that_does_not_listen_has_no_backlog() -> None:
    """A connection's unacknowledged bytes are not taken for a queue."""
    with tcp(5) as listener, socket.create_connection(listener.getsockname()) as client:
        client.send(b"x")
        assert kernel.backlog(client.fileno()) is None


def test_the_descriptor_stays_open() -> None:
    """The listener belongs to someone else."""
    with tcp(5) as listener:
        kernel.backlog(listener.fileno())
        kernel.drops(listener.fileno())
        os.fstat(listener.fileno())


def test_other_systems_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no such kernel the answer is None."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with tcp(5) as listener:
        assert kernel.backlog(listener.fileno()) is None
        assert kernel.drops(listener.fileno()) is None


@linux
def test_a_refusing_kernel_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox without the option, or with a shorter answer, makes the series absent."""

    class Refusing(socket.socket):
        def getsockopt(self, *_args: object) -> bytes:  # type: ignore[override]
            raise OSError(92, "Protocol not available")

    class Short(socket.socket):
        def getsockopt(self, *_args: object) -> bytes:  # type: ignore[override]
            return b"\x0a"

    with tcp(5) as listener:
        fd = listener.fileno()
        for kind in (Refusing, Short):
            monkeypatch.setattr(socket, "socket", kind)
            assert kernel.backlog(fd) is None
            assert kernel.drops(fd) is None


@linux
@pytest.mark.parametrize(
    ("state", "limit", "expected"), [(10, 9, kernel.Backlog(4, 9)), (1, 9, None), (10, 0, None)]
)
def test_only_a_listener_with_room_has_a_queue(
    monkeypatch: pytest.MonkeyPatch, state: int, limit: int, expected: object
) -> None:
    """The fields mean something else in other states, and zeros are what a sandbox fills in."""

    class Told(socket.socket):
        def getsockopt(self, *_args: object) -> bytes:  # type: ignore[override]
            return struct.pack("=B7x6I", state, 0, 0, 0, 0, 4, limit)

    with tcp(5) as listener:
        fd = listener.fileno()
        monkeypatch.setattr(socket, "socket", Told)
        assert kernel.backlog(fd) == expected


def diag(*attributes: tuple[int, bytes], kind: int = 20) -> bytes:
    """A sock_diag answer."""
    body = b"".join(struct.pack("=HH", 4 + len(v), n) + v + bytes(-len(v) % 4)
                    for n, v in attributes)  # fmt: skip
    body = bytes(16) + body
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (diag((4, struct.pack("=II", 3, 9))), kernel.Backlog(3, 9)),
        (diag((0, b"/run/s"), (4, struct.pack("=II", 1, 2))), kernel.Backlog(1, 2)),
        (diag((0, b"name")), None),
        (diag(), None),
        (diag((4, struct.pack("=II", 3, 9)), kind=2), None),  # NLMSG_ERROR
        (diag((4, b"\0\0")), None),
        (struct.pack("=IHHII", 36, 20, 0, 0, 0) + bytes(20), None),  # an attribute of no size
        (b"", None),
        (b"short", None),
    ],
)
def test_sock_diag_answers_are_taken_apart(answer: bytes, expected: object) -> None:
    """The queue is found among other attributes; anything else is no answer."""
    assert kernel.parse_unix_diag(answer) == expected
