"""Why a worker is gone."""

from __future__ import annotations

import signal
from typing import get_args

import pytest

from gthreadsrv.master.exits import ExitReason, describe, exit_reason
from gthreadsrv.master.fleet import SpawnReason
from gthreadsrv_metrics import labels


def code(number: int) -> int:
    """A wait status for an exit code."""
    return number << 8


def decide(
    status: int,
    ordered: ExitReason | None = None,
    *,
    booting: bool = False,
    killed_by_us: bool = False,
    oom_kills: int = 0,
) -> str:
    """The decision, with the usual circumstances filled in."""
    return exit_reason(
        ordered=ordered,
        status=status,
        booting=booting,
        killed_by_us=killed_by_us,
        oom_kills=oom_kills,
    )


def test_reasons_are_the_metrics_reasons() -> None:
    """Each reason given here is a label value the scoreboard has a cell for, and the reverse."""
    assert set(get_args(ExitReason)) == set(labels.EXIT_REASONS)
    assert set(get_args(SpawnReason)) == set(labels.SPAWN_REASONS)


@pytest.mark.parametrize("reason", sorted(set(labels.EXIT_REASONS) - {"heartbeat", "boot_error"}))
@pytest.mark.parametrize("status", [0, code(1), signal.SIGTERM, signal.SIGKILL])
def test_an_order_is_the_reason(reason: ExitReason, status: int) -> None:
    """However a worker leaves that was told to, the order is why."""
    assert decide(status, reason, killed_by_us=status == signal.SIGKILL) == reason


@pytest.mark.parametrize("reason", ["heartbeat", "boot_error"])
@pytest.mark.parametrize("status", [signal.SIGABRT, signal.SIGABRT | 0x80, signal.SIGKILL, 0])
def test_an_abort_that_was_ordered_is_no_crash(reason: ExitReason, status: int) -> None:
    """ABRT is how a silent worker is told; its death by it, with or without a core, is expected."""
    assert decide(status, reason, killed_by_us=status == signal.SIGKILL) == reason


@pytest.mark.parametrize("fault", [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL])
@pytest.mark.parametrize("ordered", [None, "reload", "shutdown"])
def test_a_fault_is_a_crash(fault: signal.Signals, ordered: ExitReason | None) -> None:
    """A process that runs into a fault has crashed, also on its way out."""
    assert decide(fault, ordered) == "crash"


@pytest.mark.parametrize("ordered", [None, "reload", "max_requests"])
def test_the_kernels_kill_for_memory(ordered: ExitReason | None) -> None:
    """A KILL that was not ours while the cgroup counted an OOM kill is an OOM kill."""
    assert decide(signal.SIGKILL, ordered, oom_kills=1) == "oom"


def test_our_own_kill_is_never_blamed_on_memory() -> None:
    """Whoever was killed at its deadline keeps its reason, whatever the counter says."""
    assert decide(signal.SIGKILL, "reload", killed_by_us=True, oom_kills=1) == "reload"


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_from_elsewhere(signum: signal.Signals) -> None:
    """An operator's kill is told from a crash."""
    assert decide(signum) == "signal"
    assert decide(signum, booting=True) == "signal"


def test_leaving_without_an_order() -> None:
    """A clean exit after draining was somebody's TERM; any other code is a crash."""
    assert decide(code(0)) == "signal"
    assert decide(code(1)) == "crash"


@pytest.mark.parametrize("number", [0, 1, 3])
def test_an_exit_before_ready_is_a_boot_error(number: int) -> None:
    """Whatever code an import exits with, the worker has not booted."""
    assert decide(code(number), booting=True) == "boot_error"


def test_descriptions_name_signals() -> None:
    """The log shows words."""
    assert describe(code(3)) == "exit code 3"
    assert describe(signal.SIGKILL) == "SIGKILL"
    assert describe(signal.SIGRTMIN + 1) == f"signal {signal.SIGRTMIN + 1}"
