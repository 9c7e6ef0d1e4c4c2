"""The master's listeners across reloads, and at the end."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gthreadsrv.errors import GthreadsrvError
from gthreadsrv.master import listening as module
from gthreadsrv.master.listening import Listening
from gthreadsrv.net.listeners import Listener, SocketFile

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="minimum TTLs are Linux's")


@pytest.fixture
def listening() -> Iterator[Listening]:
    """All listeners, closed at the end."""
    found = Listening()
    yield found
    found.close_all_but(())


def opened(listening: Listening, *addresses: str, backlog: int = 64) -> tuple[Listener, ...]:
    """Listeners of the application."""
    return listening.open(addresses, backlog, SocketFile(), setting="bind")


def accepts(listener: Listener) -> bool:
    """Whether a new client gets through."""
    with socket.socket(listener.sock.family) as client:
        client.settimeout(0.2)
        try:
            client.connect(listener.sock.getsockname())
        except (TimeoutError, ConnectionRefusedError, FileNotFoundError):
            return False
    return True


def test_a_reload_keeps_what_stays(listening: Listening, tmp_path: Path) -> None:
    """The same words give the same socket, port 0 included; only what is new is opened."""
    first = opened(listening, "127.0.0.1:0", f"unix:{tmp_path}/s")
    second = opened(listening, f"unix:{tmp_path}/s", "127.0.0.1:0", "[::1]:0")
    assert [listener.sock for listener in second[:2]] == [first[1].sock, first[0].sock]
    listening.close_all_but(second)
    assert all(accepts(listener) for listener in second)


def test_the_same_words_for_another_setting_are_another_socket(listening: Listening) -> None:
    """Port 0 for the application and port 0 for the metrics are two ports."""
    [main] = opened(listening, "127.0.0.1:0")
    [metrics] = listening.open(("127.0.0.1:0",), 64, SocketFile(), setting="metrics-bind")
    assert main.address != metrics.address
    listening.close_all_but([main])
    assert accepts(main)
    assert not accepts_at(metrics)


def accepts_at(listener: Listener) -> bool:
    """Whether a closed listener's address still answers."""
    with socket.socket() as client:
        return client.connect_ex((listener.address.host, listener.address.port)) == 0


@linux_only
def test_shut_then_closed(listening: Listening) -> None:
    """What nobody serves any more turns clients away, and is closed once nobody holds it."""
    kept, given_up = opened(listening, "127.0.0.1:0", "[::1]:0")
    listening.shut_all_but([kept])
    assert accepts(kept)
    assert not accepts(given_up)
    assert given_up.fileno() >= 0
    listening.close_all_but([kept])
    assert given_up.fileno() == -1


@linux_only
def test_a_shut_port_can_be_taken_up_again(listening: Listening) -> None:
    """A second reload that wants the address back gets the socket that is still there."""
    [port] = opened(listening, "127.0.0.1:0")
    listening.shut_all_but(())
    [again] = opened(listening, "127.0.0.1:0")
    assert again.sock is port.sock
    assert accepts(again)


def test_a_shut_unix_socket_is_made_anew(listening: Listening, tmp_path: Path) -> None:
    """Its file is gone, so there is a new socket; closing the old one leaves the new file."""
    path = tmp_path / "s"
    [old] = opened(listening, f"unix:{path}")
    listening.shut_all_but(())
    assert not path.exists()
    [new] = opened(listening, f"unix:{path}")
    assert accepts(new)
    assert old.fileno() == -1
    listening.close_all_but([new])
    assert accepts(new)


def test_a_closed_unix_socket_leaves_another_servers_file(
    listening: Listening, tmp_path: Path
) -> None:
    """After the way in was shut the path may belong to a successor."""
    path = tmp_path / "s"
    opened(listening, f"unix:{path}")
    listening.shut_all_but(())
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(path))
        successor.listen()
        listening.close_all_but(())
        assert path.is_socket()


def test_a_child_keeps_what_it_serves(listening: Listening) -> None:
    """Everything else is closed there."""
    mine, other = opened(listening, "127.0.0.1:0", "[::1]:0")
    listening.close_in_child([mine])
    assert (mine.fileno() >= 0, other.fileno()) == (True, -1)


def test_a_refusal_names_the_setting(listening: Listening) -> None:
    """One line: the address, why, where it was set, what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(GthreadsrvError) as caught:
            opened(listening, address)
    assert str(caught.value) == (
        f"cannot listen on {address}: the address is already in use (set by --bind); "
        "choose another address or free this one"
    )


def test_a_capped_backlog_is_told_once(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel shortens the queue silently; we do not."""
    warnings: list[dict[str, object]] = []
    monkeypatch.setattr(module, "backlog_cap", lambda: 128)
    monkeypatch.setattr(module.log, "warning", lambda _event, **fields: warnings.append(fields))
    for _ in range(2):
        opened(listening, "127.0.0.1:0", backlog=128)
        opened(listening, "127.0.0.1:0", backlog=2048)
    assert warnings == [{"backlog": 2048, "somaxconn": 128}]
