"""What the live page shows, as one value for JSON: computed, not measured.

Pure: one collection and the history go in. Only sizes, times and counts come out; no request
leaves a trace here, neither its path nor its client.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from gthreadsrv_metrics import labels
from gthreadsrv_metrics.advice import Window, advise
from gthreadsrv_metrics.health import why_not_ready
from gthreadsrv_metrics.layout import (
    CONFIG_FIELDS,
    M_CONFIG,
    M_RELOADS,
    M_START_TIME,
    M_TARGET_WORKERS,
)
from gthreadsrv_metrics.live_history import Drawn, grown, short
from gthreadsrv_metrics.reading import IDLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gthreadsrv_metrics.families import Families
    from gthreadsrv_metrics.live_history import History, Moment
    from gthreadsrv_metrics.reading import FleetReading, SlotReading
    from gthreadsrv_metrics.sources import Sources

__all__ = ["live_state"]

# A watchdog beats every second; after this long its worker's interpreter is held by somebody.
SILENT_S: Final = 5.0
LONG_SHARE: Final = 0.5
"""Of --timeout: a request that runs for so long is likely to be one that will not end."""
NO_TIMEOUT_S: Final = 300.0
"""In place of --timeout where it is off, as GthreadsrvRequestStuck has it."""
CELLS: Final = 64
"""Of one worker.  A thousand greenlets are more than a page can draw, or anybody look at."""
ADVICE_S: Final = 5.0
"""Of a shorter window no advice is given: one slow request would be a trend."""

_SERIES: Final = tuple(field.name for field in fields(Drawn) if field.name != "at")


def live_state(
    families: Families, fleet: FleetReading, moment: Moment, history: History, sources: Sources
) -> dict[str, Any]:
    """Return all that the page shows. ``moment`` is the collection's own."""
    now, wall = fleet.now, sources.wall()
    before = history.before(now)
    master = fleet.master
    config = dict(zip(CONFIG_FIELDS, master[M_CONFIG:], strict=False))
    timeout_s = config["timeout_seconds"]
    stuck_s = timeout_s or NO_TIMEOUT_S
    live = [slot for slot in fleet.slots if slot.live]
    return {
        "now": round(wall, 1),
        "build": dict(sources.build),
        "up_s": round(max(wall - master[M_START_TIME], 0.0)),
        "not_ready": why_not_ready(fleet, sources.ready_max_saturation) or "",
        "workers_wanted": int(master[M_TARGET_WORKERS]),
        "workers_least": int(config["workers"]),
        "workers_most": int(config["max_workers"]),
        "timeout_s": timeout_s,
        "long_s": stuck_s * LONG_SHARE,
        "stuck_s": stuck_s,
        "bounds": {
            "duration": [labels.DURATION_BOUNDS[0], labels.DURATION_BOUNDS[-1]],
            "queue": [labels.QUEUE_BOUNDS[0], labels.QUEUE_BOUNDS[-1]],
        },
        "workers": [_worker(slot, moment, before, wall) for slot in live],
        "listeners": _listeners(families),
        "cores": short(moment.total("cgroup_cpu_limit_cores") or sources.cores),
        "memory": {
            "used": moment.total("cgroup_memory_usage_bytes"),
            "limit": moment.total("cgroup_memory_limit_bytes"),
        },
        "connections": [sum(state) for state in zip(*(s.connections for s in live), strict=True)],
        "exits": _exits(moment, history.oldest(now)),
        "reloads": dict(zip(labels.RELOAD_RESULTS, map(int, master[M_RELOADS:]), strict=False)),
        "timeouts": dict(zip(labels.TIMEOUT_ACTIONS, map(int, fleet.timeouts), strict=True)),
        "history": _history(history.drawn(now), wall - now),
        "advice": _advice(moment, before, sources.cores),
    }


def _worker(
    slot: SlotReading,
    moment: Moment,
    before: Moment | None,
    wall: float,
) -> dict[str, Any]:
    """Return one row of the grid."""
    rate = cpu = None
    if before is not None and slot.slot in before.workers:
        requests, cpu_s = grown(before.workers[slot.slot], moment.workers[slot.slot])
        rate, cpu = requests / (moment.at - before.at), cpu_s / (moment.at - before.at)
    silent = slot.state != "booting" and slot.heartbeat_age_s > SILENT_S
    return {
        "slot": slot.slot,
        "state": slot.state,
        "silent_s": round(slot.heartbeat_age_s) if silent else 0,
        "up_s": round(max(wall - slot.start_time, 0.0)),
        "generation": slot.generation,
        "size": slot.threads,
        "busy": slot.threads_busy,
        # Of each thread the age of its request, -1 where it has none.
        "threads": [-1 if age == IDLE else round(age, 2) for age in _cells(slot.ages)],
        "rate": short(rate),
        "cpu": short(cpu),
        "memory": moment.memory.get(slot.slot),
    }


def _cells(ages: Sequence[float]) -> Sequence[float]:
    """Return what is drawn of a worker's threads: all of them, or the oldest requests first."""
    return ages if len(ages) <= CELLS else sorted(ages, reverse=True)[:CELLS]


def _listeners(families: Families) -> list[dict[str, Any]]:
    """Return the accept queues; a number that the kernel does not tell is None."""
    found: dict[str, dict[str, Any]] = {}
    for key, name in (
        ("queued", "listener_backlog"),
        ("limit", "listener_backlog_limit"),
        ("dropped", "listener_drops_total"),
    ):
        for sample in families.samples(name):
            label = sample.labels["listener"]
            empty = {"name": label, "queued": None, "limit": None, "dropped": None}
            found.setdefault(label, empty)[key] = int(sample.value)
    return list(found.values())


def _exits(moment: Moment, oldest: Moment | None) -> list[dict[str, Any]]:
    """Return why workers ended: all that did since the start, and of these the recent ones."""
    since = moment.exits if oldest is None else oldest.exits
    recent = grown(since, moment.exits)
    return [
        {"reason": reason, "all": int(count), "recent": int(new)}
        for reason, count, new in zip(labels.EXIT_REASONS, moment.exits, recent, strict=True)
        if count
    ]


def _history(moments: Sequence[Drawn], wall_offset_s: float) -> dict[str, list[float | None]]:
    """Return the moments column by column, ``at`` in unix seconds."""
    found: dict[str, list[float | None]] = {
        name: [getattr(moment, name) for moment in moments] for name in _SERIES
    }
    found["at"] = [round(moment.at + wall_offset_s, 1) for moment in moments]
    return found


def _advice(moment: Moment, before: Moment | None, cores: float) -> dict[str, Any] | None:
    """Return what `gthreadsrvctl advise` would say; None where nothing can be said yet."""
    if before is None or moment.at - before.at < ADVICE_S:
        return None
    seconds = moment.at - before.at
    found = advise(Window(before.page, moment.page, seconds, cores))
    return {
        "seconds": round(seconds),
        "found": [
            {"limit": one.limit, "text": one.text, "numbers": list(one.numbers)} for one in found
        ],
    }
