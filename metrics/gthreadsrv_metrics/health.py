"""Whether the server lives, is ready and has started: three questions an orchestrator asks.

Pure decisions on the scoreboard and a clock; the exporter turns them into responses, and
each No comes with its reason in one line. No prometheus_client here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from gthreadsrv_metrics.layout import M_BOOT, M_HEARTBEAT, M_SHUTTING_DOWN
from gthreadsrv_metrics.reading import read_fleet

if TYPE_CHECKING:
    from gthreadsrv_metrics.reading import FleetReading
    from gthreadsrv_metrics.scoreboard import Scoreboard

__all__ = ["HEARTBEAT_LIMIT_S", "live", "ready", "started", "why_not_ready"]

# Heartbeats come about every second. A worker or master silent for this long is not coming
# back by itself; shorter would call a machine that swaps dead.
HEARTBEAT_LIMIT_S: Final = 30.0


def live(board: Scoreboard, now: float, master_pid: int) -> str | None:
    """Return why the master is not alive and well, or None."""
    # The exporter's parent is the master. Whoever else asks is the master or a worker.
    if os.getpid() != master_pid and os.getppid() != master_pid:
        return f"the master (pid {master_pid}) is gone"
    beat = board.master_cells[M_HEARTBEAT]
    if beat and now - beat > HEARTBEAT_LIMIT_S:
        return f"the master has not been heard of for {now - beat:.0f} s"
    return None


def ready(board: Scoreboard, now: float, max_saturation: float | None = None) -> str | None:
    """Return why no new requests should be sent here, or None.

    ``max_saturation`` is the share of busy threads from which on others should be asked.
    """
    if board.master_cells[M_SHUTTING_DOWN]:  # before all else: nothing need be read for it
        return "shutting down"
    return why_not_ready(read_fleet(board, now), max_saturation)


def why_not_ready(fleet: FleetReading, max_saturation: float | None = None) -> str | None:
    """Return the same of a board that has been read."""
    if fleet.master[M_SHUTTING_DOWN]:
        return "shutting down"
    up = [slot for slot in fleet.slots if slot.state == "ready"]
    if not up:
        states = sorted(slot.state for slot in fleet.slots if slot.live)
        return f"no worker is ready ({', '.join(states) or 'none has been started'})"
    well = [slot for slot in up if slot.heartbeat_age_s <= HEARTBEAT_LIMIT_S]
    if not well:
        age_s = min(slot.heartbeat_age_s for slot in up)
        return f"no ready worker has been heard of for {age_s:.0f} s"
    if max_saturation is not None:
        busy = sum(slot.threads_busy for slot in well)
        threads = sum(slot.threads for slot in well)
        if threads and busy / threads >= max_saturation:
            return f"{busy} of {threads} threads are busy, the limit is {max_saturation:.0%}"
    return None


def started(board: Scoreboard) -> str | None:
    """Return why the server has not started yet, or None."""
    # A histogram's first cell is its sum; any boot at all is in one of the others.
    if not any(board.master_cells[M_BOOT + 1 :]):
        return "no worker has finished booting yet"
    return None
