"""Fixtures for the worker's tests: rigs that leave nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gthreadsrv.worker import drain, handshake, hooked, intake, preface, service, thread
from tests.unit.worker.rig import Clock, Live, Rig, hello, no_exit, open_fds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from _typeshed.wsgi import WSGIApplication


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the monotonic clock of the modules that a leader runs."""
    clock = Clock()
    for module in (drain, handshake, hooked, intake, preface, service, thread):
        if hasattr(module, "monotonic"):
            monkeypatch.setattr(module, "monotonic", clock)
    return clock


@pytest.fixture
def make_rig(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Rig]]:
    """Make stepped rigs; at the end every descriptor must have come back."""
    before = open_fds()
    made: list[Rig] = []

    def make(app: WSGIApplication = hello, *, tcp: bool = False, **kwargs: Any) -> Rig:
        path = None if tcp else tmp_path / f"{len(made)}.sock"
        made.append(Rig(app, path, clock, **kwargs))
        return made[-1]

    yield make
    for rig in made:
        rig.release()
        assert not rig.log.events("critical"), rig.log.lines
    assert open_fds() == before


@pytest.fixture
def make_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Live]]:
    """Make rigs with real threads; `running` starts and ends them."""
    before = open_fds()
    codes = no_exit(monkeypatch)
    made: list[Live] = []

    def make(app: WSGIApplication = hello, *, tcp: bool = False, **kwargs: Any) -> Live:
        path = None if tcp else tmp_path / f"{len(made)}.sock"
        made.append(Live(app, path, **kwargs))
        return made[-1]

    yield make
    for live in made:
        assert not live.log.events("critical"), live.log.lines
    assert not codes
    assert open_fds() == before
