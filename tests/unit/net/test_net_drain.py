"""Shutting the way in: who is in is served, who is not comes later."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gthreadsrv.net.address import FdAddress, UnixAddress, parse_bind
from gthreadsrv.net.drain import admit, resume_new_connections, stop_new_connections
from gthreadsrv.net.listeners import Listener, bind

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="minimum TTLs are Linux's")


@pytest.fixture(params=["127.0.0.1:0", "[::1]:0"])
def tcp(request: pytest.FixtureRequest) -> Iterator[Listener]:
    """A TCP listener of each family."""
    [listener] = bind([parse_bind(request.param)], 64)
    yield listener
    listener.close()


@linux_only
def test_queued_tcp_connections_stay_servable(tcp: Listener) -> None:
    """Connections in the queue are accepted, read and answered after the way in is shut."""
    with socket.create_connection(tcp.sock.getsockname()[:2], 5) as client:
        assert stop_new_connections(tcp)
        client.sendall(b"question")
        accepted, _ = tcp.sock.accept()
        with accepted:
            assert accepted.recv(100) == b"question"
            accepted.sendall(b"answer")
        assert client.recv(100) == b"answer"
        assert client.recv(100) == b""


@linux_only
def test_new_tcp_connections_get_no_answer(tcp: Listener) -> None:
    """A new client is neither accepted nor reset: its kernel goes on trying."""
    assert stop_new_connections(tcp)
    with socket.socket(tcp.sock.family) as client:
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.connect(tcp.sock.getsockname())
    with pytest.raises(BlockingIOError):
        tcp.sock.accept()


@linux_only
def test_no_privilege_is_needed(tcp: Listener) -> None:
    """A server that never was root shuts the way in as well: in a container it is nobody."""
    pid = os.fork()
    if not pid:
        if os.geteuid() == 0:
            os.setuid(65534)
        os._exit(0 if stop_new_connections(tcp) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    with socket.socket(tcp.sock.family) as client:
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.connect(tcp.sock.getsockname())


@linux_only
def test_a_handshake_that_was_under_way_is_completed(tcp: Listener) -> None:
    """Who had its SYN-ACK when the way was shut is served, also what it sends later on."""
    # The connection becomes one with the first data, so after the way in is shut.
    tcp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
    with socket.create_connection(tcp.sock.getsockname()[:2], 5) as client:
        with pytest.raises(BlockingIOError):
            tcp.sock.accept()
        assert stop_new_connections(tcp)
        client.sendall(b"first")
        tcp.sock.settimeout(10)
        accepted, _ = tcp.sock.accept()
        with accepted:
            admit(accepted)
            accepted.settimeout(10)
            assert accepted.recv(100) == b"first"
            client.sendall(b"second")
            assert accepted.recv(100) == b"second"


@linux_only
def test_the_way_in_can_be_opened_again(tcp: Listener) -> None:
    """A reload that takes the address up again serves new clients."""
    stop_new_connections(tcp)
    assert resume_new_connections(tcp)
    socket.create_connection(tcp.sock.getsockname()[:2], 5).close()
    assert resume_new_connections(tcp), "twice is not an error"


def test_a_unix_socket_loses_its_file(tmp_path: Path) -> None:
    """New clients find no file; the one in the queue is served; the file does not come back."""
    address = UnixAddress(f"{tmp_path}/s")
    [listener] = bind([address], 64)
    with socket.socket(socket.AF_UNIX) as client, socket.socket(socket.AF_UNIX) as late:
        client.connect(address.path)
        assert stop_new_connections(listener)
        with pytest.raises(FileNotFoundError):
            late.connect(address.path)
        client.sendall(b"question")
        accepted, _ = listener.sock.accept()
        with accepted:
            assert accepted.recv(100) == b"question"
    assert not resume_new_connections(listener)
    listener.close()


def test_an_inherited_socket_is_left_alone() -> None:
    """Whoever opened it goes on using it."""
    with socket.create_server(("127.0.0.1", 0)) as given:
        [listener] = bind([FdAddress(given.fileno())], 5)
        assert not stop_new_connections(listener)
        socket.create_connection(given.getsockname(), 5).close()
        assert resume_new_connections(listener)
        listener.close()
