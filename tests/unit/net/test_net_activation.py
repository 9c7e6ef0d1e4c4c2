"""Sockets that a service manager has opened, as the environment tells of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from gthreadsrv.errors import ConfigError
from gthreadsrv.net import activation
from gthreadsrv.net.activation import Activated, activated


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Three sockets side by side, where the numbers are free; the first one's number."""
    sockets = [socket.socket() for _ in range(3)]
    first = 900
    for index, sock in enumerate(sockets):
        os.dup2(sock.fileno(), first + index, inheritable=True)
    monkeypatch.setattr(activation, "_FIRST_FD", first)
    yield first
    for index, sock in enumerate(sockets):
        os.close(first + index)
        sock.close()


def test_each_socket_is_an_address(passed: int) -> None:
    """In order, and the one called metrics apart; none is left open to programs we start."""
    environ = {"LISTEN_PID": "42", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "web:metrics:shop.socket"}
    found = activated(environ, 42)
    assert found == Activated((f"fd://{passed}", f"fd://{passed + 2}"), f"fd://{passed + 1}")
    assert not any(os.get_inheritable(passed + index) for index in range(3))


def test_names_may_be_missing(passed: int) -> None:
    """Older managers send none."""
    found = activated({"LISTEN_PID": "42", "LISTEN_FDS": "2"}, 42)
    assert found == Activated((f"fd://{passed}", f"fd://{passed + 1}"), None)


@pytest.mark.parametrize(
    "environ", [{}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "9"}]
)
def test_another_processs_sockets_are_not_ours(passed: int, environ: dict[str, str]) -> None:
    """They were inherited by chance."""
    assert activated(environ, 42) == Activated()


@pytest.mark.parametrize("count", ["", "-1", "two", "٣"])
def test_a_count_that_is_none(count: str) -> None:
    """Said in one line."""
    with pytest.raises(ConfigError, match="LISTEN_FDS: .* is not a number of sockets"):
        activated({"LISTEN_PID": "42", "LISTEN_FDS": count}, 42)


def test_a_descriptor_that_is_not_open(passed: int) -> None:
    """Somebody in between has closed it."""
    with pytest.raises(ConfigError, match=f"file descriptor {passed + 3} is not open"):
        activated({"LISTEN_PID": "42", "LISTEN_FDS": "4"}, 42)


def test_one_socket_for_metrics(passed: int) -> None:
    """There is one metrics port."""
    environ = {"LISTEN_PID": "42", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "metrics:metrics"}
    with pytest.raises(ConfigError, match="2 sockets are called metrics"):
        activated(environ, 42)
