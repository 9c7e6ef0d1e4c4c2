"""Why a worker is gone: one decision, from what was ordered and what the kernel reports.

Pure. Used by the master when it reaps; the reasons are those of `worker_exits_total`.
"""

from __future__ import annotations

import os
import signal
from typing import Final, Literal, TypeAlias

ExitReason: TypeAlias = Literal[
    "max_requests",
    "max_lifetime",
    "max_rss",
    "reload",
    "scale_down",
    "heartbeat",
    "request_timeout",
    "boot_error",
    "crash",
    "signal",
    "oom",
    "shutdown",
]

# What run_worker returns when the application cannot be loaded.
BOOT_FAILED_EXIT_CODE: Final = 3

# Signals that a process brings upon itself (signal(7): action "Core", but for QUIT and the
# limits). All others were sent by somebody.
_FAULTS: Final = frozenset(
    {
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGSYS,
        signal.SIGTRAP,
    }
)


def exit_reason(
    *,
    ordered: ExitReason | None,
    status: int,
    booting: bool,
    killed_by_us: bool,
    oom_kills: int,
) -> ExitReason:
    """The one reason for an exit.

    `ordered`: why the master told it to leave, if it did; `status`: as wait(2) reports it;
    `booting`: it had not become ready; `killed_by_us`: the master sent KILL;
    `oom_kills`: how far the cgroup's counter of OOM kills has moved since the last exit.
    """
    code = os.waitstatus_to_exitcode(status)
    # 1. The kernel's KILL looks like ours and like an operator's; only the counter tells.
    if code == -signal.SIGKILL and not killed_by_us and oom_kills > 0:
        return "oom"
    # 2. Told to stop with ABRT, it dies by ABRT: the order is the reason.
    if ordered in {"heartbeat", "boot_error"}:
        return ordered
    # 3. A fault on the way out is news, whatever it was told.
    if -code in _FAULTS:
        return "crash"
    if ordered is not None:
        return ordered
    # 4. Nobody here asked for it.
    if code < 0:
        return "signal"
    if booting:
        return "boot_error"
    # A worker leaves with 0 only after draining, and somebody else must have told it to.
    return "signal" if code == 0 else "crash"


def describe(status: int) -> str:
    """A wait status for a log line: "exit code 3", "SIGKILL"."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # real-time signals have no names
        return f"signal {-code}"
