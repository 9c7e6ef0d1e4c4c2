"""Opening listeners: options, ownership of socket files, and refusals in one line."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gthreadsrv.net.address import FdAddress, TcpAddress, UnixAddress, parse_bind
from gthreadsrv.net.listeners import (
    SO_TIMESTAMPNS,
    BindError,
    Listener,
    SocketFile,
    _bind_file,
    backlog_cap,
    bind,
)


@pytest.fixture
def opened() -> Iterator[list[Listener]]:
    """Listeners to be closed when the test ends."""
    listeners: list[Listener] = []
    yield listeners
    for listener in listeners:
        listener.close()


def test_port_zero_becomes_a_real_port(opened: list[Listener]) -> None:
    """The address tells the port the kernel chose, `configured` what was asked for."""
    opened += bind([parse_bind("127.0.0.1:0")], 5)
    [listener] = opened
    assert isinstance(listener.address, TcpAddress)
    assert listener.address.port == listener.sock.getsockname()[1] > 0
    assert listener.configured == TcpAddress("127.0.0.1", 0)
    assert (listener.kind, listener.owned) == ("tcp", True)


def test_tcp_options_reach_accepted_sockets(opened: list[Listener]) -> None:
    """TCP_NODELAY and arrival times are set once, on the listener, and inherited."""
    opened += bind([parse_bind("127.0.0.1:0")], 5)
    [listener] = opened
    assert listener.sock.getblocking() is False
    assert listener.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
    with socket.create_connection(listener.sock.getsockname()):
        accepted, _ = listener.sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            if sys.platform == "linux":
                assert accepted.getsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS) == 1


def test_a_host_name_is_told_as_its_address(opened: list[Listener]) -> None:
    """The name localhost is one IPv4 listener, shown by number."""
    opened += bind([parse_bind("localhost:0")], 5)
    assert str(opened[0].address).startswith("127.0.0.1:")


def test_ipv6_wildcard_serves_ipv4_when_alone(opened: list[Listener]) -> None:
    """[::] alone takes both families; beside an IPv4 listener on its port it takes its own."""
    opened += bind([parse_bind("[::]:0")], 5)
    [alone] = opened
    port = alone.sock.getsockname()[1]
    socket.create_connection(("127.0.0.1", port), 5).close()
    alone.close()
    opened += bind([parse_bind(f"[::]:{port}"), parse_bind(f"0.0.0.0:{port}")], 5)
    assert opened[1].sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_a_port_in_use_is_refused_and_nothing_stays_open(tmp_path: Path) -> None:
    """All or none: what had been opened before the failure is closed and removed again."""
    path = tmp_path / "s.sock"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BindError) as caught:
            bind([parse_bind(f"unix:{path}"), parse_bind(f"127.0.0.1:{port}")], 5)
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{port}: the address is already in use"
    )
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("no-such-host.invalid:80", "host name is not known"),
        ("192.0.2.1:80", "no such address"),
        ("unix:/no/such/directory/s", "directory does not exist"),
        ("fd://987654", "no such file descriptor"),
    ],
)
def test_refusals_are_words_for_people(text: str, needle: str) -> None:
    """The reason is given without an errno."""
    with pytest.raises(BindError) as caught:
        bind([parse_bind(text)], 5)
    assert needle in str(caught.value)


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o177])
def test_umask_decides_the_mode_of_the_socket_file(
    tmp_path: Path, opened: list[Listener], umask: int
) -> None:
    """The mode is right from the start, and the process's own umask is put back."""
    before = os.umask(0o022)
    try:
        opened += bind([UnixAddress(f"{tmp_path}/s")], 5, SocketFile(umask=umask))
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o777 & ~umask
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_socket_file_gets_its_owner(tmp_path: Path, opened: list[Listener]) -> None:
    """The workers' user may own the file."""
    opened += bind([UnixAddress(f"{tmp_path}/s")], 5, SocketFile(uid=65534, gid=65534))
    found = (tmp_path / "s").stat()
    assert (found.st_uid, found.st_gid) == (65534, 65534)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_link_in_its_place_gives_nothing_away(tmp_path: Path) -> None:
    """Who may write to the socket's folder cannot have another file given to them."""
    precious, path = tmp_path / "precious", tmp_path / "s"
    precious.write_text("root's")

    class Swapped:
        def bind(self, name: str) -> None:
            os.symlink(precious, name)

    _bind_file(Swapped(), str(path), SocketFile(uid=65534, gid=65534))  # type: ignore[arg-type]
    assert precious.stat().st_uid == 0
    assert path.lstat().st_uid == 65534


def test_a_stale_socket_file_is_replaced(tmp_path: Path, opened: list[Listener]) -> None:
    """A file whose listener is gone does not stand in the way."""
    address = UnixAddress(f"{tmp_path}/s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(address.path)
    opened += bind([address], 5)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address.path)


def test_a_live_socket_file_is_refused(tmp_path: Path, opened: list[Listener]) -> None:
    """Another server's socket is not taken away, not even when its queue is full."""
    address = UnixAddress(f"{tmp_path}/s")
    opened += bind([address], 0)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(address.path)
        with pytest.raises(BindError, match="another process listens there"):
            bind([address], 5)
    assert Path(address.path).is_socket()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """A mistyped path never deletes a file."""
    (tmp_path / "data").write_text("precious")
    with pytest.raises(BindError, match="not a socket"):
        bind([UnixAddress(f"{tmp_path}/data")], 5)
    assert (tmp_path / "data").read_text() == "precious"


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_abstract_sockets_have_no_file(opened: list[Listener]) -> None:
    """An abstract name is served, and unlinking it is a no-op."""
    address = UnixAddress(f"\0gthreadsrv-test-{os.getpid()}")
    opened += bind([address], 5)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address.path)
    opened[0].unlink()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_an_inherited_descriptor_is_adopted(
    tmp_path: Path, opened: list[Listener], family: socket.AddressFamily
) -> None:
    """fd://N serves what was opened elsewhere, under its true address, and never unlinks it."""
    with socket.socket(family) as given:
        given.bind(("127.0.0.1", 0) if family == socket.AF_INET else f"{tmp_path}/s")
        given.listen(5)
        opened += bind([FdAddress(given.fileno())], 5)
        [listener] = opened
        assert listener.sock.getsockname() == given.getsockname()
        assert listener.fileno() != given.fileno()
        assert not listener.owned
        name = given.getsockname()
        text = f"unix:{name}" if family == socket.AF_UNIX else f"{name[0]}:{name[1]}"
        assert str(listener.address) == text
        listener.unlink()
        with socket.socket(family) as client:
            client.connect(given.getsockname())


def test_a_descriptor_of_another_kind_is_refused() -> None:
    """A datagram socket cannot be listened on."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as given,
        pytest.raises(BindError, match="not a stream socket"),
    ):
        bind([FdAddress(given.fileno())], 5)


def test_the_backlog_of_an_open_listener_can_change(opened: list[Listener]) -> None:
    """A reload gives a kept socket its new queue length."""
    opened += bind([parse_bind("127.0.0.1:0")], 0)
    opened[0].set_backlog(3)
    clients = [socket.create_connection(opened[0].sock.getsockname(), 5) for _ in range(4)]
    for client in clients:
        client.close()


def test_backlog_cap_is_the_kernels() -> None:
    """The cap is read from the kernel where it tells."""
    if sys.platform == "linux":
        assert backlog_cap() == int(Path("/proc/sys/net/core/somaxconn").read_text())
