"""A listener as the worker sees it: accepting, reading with arrival times, whom to believe."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from gthreadsrv.http.request import RequestHead
from gthreadsrv.net.address import TcpAddress, UnixAddress
from gthreadsrv.net.listeners import bind
from gthreadsrv.net.peers import TrustedPeers
from gthreadsrv.worker.ports import Port, receive_plain, receive_stamped
from tests.unit.worker.rig import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from gthreadsrv.net.address import Address

HEAD = RequestHead("GET", "/", 1, [], -1, False, True, False, "/", "", b"")


def open_port(address: Address) -> Port:
    listener = bind([address], 16)[0]
    return Port(listener, TrustedPeers(()), multithread=True, multiprocess=False)


def environ_of(port: Port, peer: tuple[str, str]) -> dict[str, object]:
    import io

    return port.environs.build(HEAD, io.BytesIO(), -1, peer, False)


def test_a_tcp_port(tmp_path: Path) -> None:
    """Peers have an address and a port; the environ names the listener's."""
    port = open_port(TcpAddress("127.0.0.1", 0))
    with pytest.raises(BlockingIOError):
        port.accept()
    client = socket.create_connection(port.sock.getsockname())
    sock, peer = port.accept()

    assert peer == ("127.0.0.1", str(client.getsockname()[1]))
    assert sock.getblocking() is False
    assert port.tcp
    environ = environ_of(port, peer)
    assert environ["SERVER_NAME"] == "127.0.0.1"
    assert environ["SERVER_PORT"] == str(port.sock.getsockname()[1])
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    for end in (client, sock, port.sock):
        end.close()


def test_an_ipv6_port() -> None:
    """The same without the flow and scope numbers of an IPv6 name."""
    try:
        port = open_port(TcpAddress("::1", 0))
    except Exception as error:  # noqa: BLE001 - whatever says that there is no IPv6
        pytest.skip(f"no IPv6 here: {error}")
    client = socket.create_connection(port.sock.getsockname()[:2])
    sock, peer = port.accept()

    assert peer == ("::1", str(client.getsockname()[1]))
    assert environ_of(port, peer)["SERVER_NAME"] == "::1"
    for end in (client, sock, port.sock):
        end.close()


def test_a_unix_port(tmp_path: Path) -> None:
    """Peers have no name, and the environ still has what PEP 3333 requires."""
    port = open_port(UnixAddress(str(tmp_path / "s")))
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(tmp_path / "s"))
    sock, peer = port.accept()

    assert peer == ("", "")
    assert sock.getblocking() is False
    environ = environ_of(port, peer)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("", "")
    client.send(b"abc")
    assert port.receive(sock, 10) == (b"abc", 0)
    for end in (client, sock, port.sock):
        end.close()


def test_an_applications_default_timeout_does_not_reach_accepted_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """socket.setdefaulttimeout() in an application must not make the server's sockets wait."""
    port = open_port(UnixAddress(str(tmp_path / "s")))
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(tmp_path / "s"))
    socket.setdefaulttimeout(5.0)
    try:
        sock, _ = port.accept()
    finally:
        socket.setdefaulttimeout(None)

    assert sock.gettimeout() == 0.0
    with pytest.raises(BlockingIOError):
        receive_plain(sock, 10)
    for end in (client, sock, port.sock):
        end.close()


def test_the_kernels_arrival_time_lies_between_sending_and_reading() -> None:
    """The stamp is that of the bytes, however late they are read."""
    port = open_port(TcpAddress("127.0.0.1", 0))
    client = socket.create_connection(port.sock.getsockname())
    sock, _ = port.accept()
    seen: list[tuple[int, int, int]] = []

    def stamped() -> bool:
        before = time.time_ns()
        client.send(b"x")
        wait_until(lambda: sock.recv(1, socket.MSG_PEEK) if readable(sock) else b"", "a byte")
        after = time.time_ns()
        data, arrival_ns = receive_stamped(sock, 10)
        assert data == b"x"
        seen.append((before, arrival_ns, after))
        return arrival_ns > 0

    wait_until(stamped, "a stamp (the first bytes may have none)")
    before, arrival_ns, after = seen[-1]
    assert before - 1_000_000 <= arrival_ns <= after + 1_000_000
    for end in (client, sock, port.sock):
        end.close()


def test_stamped_reads_report_the_end_and_the_lack_of_bytes() -> None:
    """As recv does: b"" at the end of stream, BlockingIOError when nothing is there."""
    port = open_port(TcpAddress("127.0.0.1", 0))
    client = socket.create_connection(port.sock.getsockname())
    sock, _ = port.accept()
    with pytest.raises(BlockingIOError):
        receive_stamped(sock, 10)
    client.close()
    wait_until(lambda: readable(sock), "the end of stream")

    assert receive_stamped(sock, 10) == (b"", 0)
    for end in (sock, port.sock):
        end.close()


def readable(sock: socket.socket) -> bool:
    import select

    return bool(select.select([sock], [], [], 0)[0])
