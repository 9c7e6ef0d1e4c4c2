"""Requests with hooks: what they cost the requests and the connections around them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gthreadsrv.hooks import WorkerHooks
from gthreadsrv.worker import hooked as hooked_module
from gthreadsrv.worker import interrupt as interrupt_module
from gthreadsrv.worker.connection import IDLE
from gthreadsrv.wsgi import metrics_path
from tests.unit.worker.rig import GET, Clock, Rig, get, hello

MakeRig = Callable[..., Rig]


def hooks(**calls: Callable[..., Any]) -> WorkerHooks:
    """A worker's hooks, of which these are set."""
    return WorkerHooks(calls, cast("Any", SimpleNamespace()), cast("Any", SimpleNamespace(nr=0)))


def test_a_thread_is_back_when_its_hook_has_ended(
    make_rig: MakeRig, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on it is free, and its next request, if that is there already, has begun."""
    rig = make_rig(hello, hooks=hooks(post_request=lambda *_: clock.advance(5.0)))
    instants: list[float] = []
    settle = rig.pool.settle

    def note(*args: Any) -> Any:
        instants.append(args[3])
        return settle(*args)

    monkeypatch.setattr(rig.pool, "settle", note)
    began = clock.now
    rig.exchange(get("/a") + get("/b"))
    assert rig.responses() == 2
    assert instants == [began + 5.0, began + 10.0]


def test_a_connection_has_its_time_from_when_its_thread_is_done(
    make_rig: MakeRig, clock: Clock
) -> None:
    """A hook that outlasts the keep-alive must not leave an idle connection that nobody ends."""
    rig = make_rig(hello, hooks=hooks(post_request=lambda *_: clock.advance(9.0)), keepalive=5.0)
    client = rig.connect()
    rig.exchange(GET, client)
    connection = rig.only()
    assert connection.state is IDLE
    assert connection.deadline == clock.now + 5.0
    assert rig.pool.earliest <= connection.deadline


@pytest.mark.parametrize("module", [hooked_module, metrics_path])
def test_an_application_that_returns_through_us_is_not_interrupted_on_the_way(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    """Between it and the service is code of ours, where the result would be lost as well."""
    sent: list[int] = []
    monkeypatch.setattr(
        "gthreadsrv.worker.interrupt.raise_in", lambda ident: bool(sent.append(ident))
    )
    service = make_rig(hello, hooks=hooks(pre_request=lambda *_: None)).service
    caller = threading.get_ident()
    frames = {caller: SimpleNamespace(f_code=SimpleNamespace(co_filename=module.__file__))}
    monkeypatch.setattr(interrupt_module.sys, "_current_frames", lambda: frames)
    service.interruption.inside_since = 7.0
    service.interruption.send(caller, 7.0)
    assert sent == []


def test_a_thread_in_a_hook_is_a_busy_one(make_rig: MakeRig, clock: Clock) -> None:
    """Also after the response: its time is seen, and a stuck one is found as a request is."""
    seen: list[tuple[float, int]] = []

    def leave(*_: Any) -> None:
        seen.append((rig.service.row.since, rig.fleet().slots[0].threads_busy))
        clock.advance(5.0)

    rig = make_rig(hello, hooks=hooks(post_request=leave))
    began = clock.now
    rig.exchange(GET)
    assert seen == [(began, 1)]
    assert rig.service.row.since == 0.0
    assert rig.fleet().slots[0].threads_busy == 0
    assert rig.responses() == 1
