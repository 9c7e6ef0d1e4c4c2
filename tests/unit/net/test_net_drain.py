"""Shutting the way in: who is in is served, who is not comes later."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gthreadsrv.net.address import FdAddress, UnixAddress, parse_bind
from gthreadsrv.net.drain import resume_new_connections, stop_new_connections
from gthreadsrv.net.listeners import Listener, bind

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's")


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
