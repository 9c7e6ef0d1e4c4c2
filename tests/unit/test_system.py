"""The system's own calls, kept from a library that replaces them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gthreadsrv import system


def replacement(module: str) -> Callable[[], int]:
    def call() -> int:
        return 0

    call.__module__ = module
    return call


def test_what_a_library_has_replaced_is_put_back_and_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(system, "_theirs", {})
    fork, handler, others = os.fork, signal.signal, replacement("profiler.os")
    for module, name, by in (
        (os, "fork", "gevent.os"), (signal, "signal", "gevent.signal"), (os, "kill", None),
        (os, "read", "eventlet.green.os"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, others if by is None else replacement(by))
    theirs: Any = os.fork
    system.keep()
    assert (os.fork, signal.signal) == (fork, handler)
    assert os.kill is others, "not a library of greenlets"
    system.give_back()
    assert os.fork is theirs
    system.keep()
    assert os.fork is fork


@pytest.mark.parametrize(
    ("name", "module", "found"),
    [
        ("gevent.monkey", SimpleNamespace(is_module_patched=lambda _name: True), "gevent"),
        ("gevent.monkey", SimpleNamespace(is_module_patched=lambda _name: False), ""),
        ("eventlet.patcher", SimpleNamespace(is_monkey_patched=lambda _name: True), "eventlet"),
        ("eventlet.patcher", SimpleNamespace(is_monkey_patched=lambda _name: False), ""),
    ],
)
def test_who_has_replaced_threads_is_known_without_an_import(
    name: str, module: object, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]
    assert system.replaced_by() == found
