"""Real masters over workers that only pretend, gone when the test ends."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.master.fake_server import Master

Start = Callable[..., Master]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start masters that are gone when the test ends."""
    masters: list[Master] = []

    def start_one(behaviour: str = "good", folder: Path = tmp_path, **settings: Any) -> Master:
        masters.append(Master(folder, behaviour, **settings))
        return masters[-1]

    yield start_one
    for master in masters:
        master.kill()


def accepts(address: tuple[str, int]) -> bool:
    """Whether a client gets through."""
    try:
        socket.create_connection(address, 0.3).close()
    except (ConnectionRefusedError, TimeoutError):
        return False
    return True
