"""The whole fleet's metrics, in prometheus_client's collector protocol.

Register a ``MultiprocessCollector`` in any registry, in the exporter or in an application
under the server, and a scrape of that registry yields every metric of the catalogue that
can be measured here. Everything is read at the scrape; nothing is kept in between but what
makes counters monotone.
"""

from __future__ import annotations

import struct
import threading
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from prometheus_client.registry import Collector

from gthreadsrv_metrics import kernel, labels
from gthreadsrv_metrics.app_metrics import measure
from gthreadsrv_metrics.catalogue import CATALOGUE
from gthreadsrv_metrics.cgroup import CgroupReading, read_cgroup
from gthreadsrv_metrics.families import Exemplar, Families, Family, empty_family
from gthreadsrv_metrics.layout import (
    CONFIG_FIELDS,
    M_BOOT,
    M_CONFIG,
    M_EXITS,
    M_RELOAD_SUCCESS,
    M_RELOADS,
    M_SCALE_REFUSALS,
    M_SCALES,
    M_SPAWNS,
    M_START_TIME,
    M_TARGET_WORKERS,
)
from gthreadsrv_metrics.proc import ProcessReader, ProcessReading
from gthreadsrv_metrics.reading import (
    FleetReading,
    SlotReading,
    code_class,
    method_and_code,
    read_fleet,
    utilization,
)
from gthreadsrv_metrics.sources import Sources, current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gthreadsrv_metrics.scoreboard import Scoreboard

__all__ = ["MultiprocessCollector"]

_T = TypeVar("_T")


class MultiprocessCollector(Collector):
    """Yields what the server of this process knows about itself."""

    def __init__(
        self,
        board: Scoreboard | None = None,
        sources: Sources | None = None,
    ) -> None:
        """Collect from a board; without one from the server this process belongs to."""
        published = current()
        self._follows = board is None and sources is None
        if board is None and published is not None:
            board, sources = published.board, sources or published.sources
        if board is None:
            raise RuntimeError(
                "no scoreboard: MultiprocessCollector() works in an application that"
                " gthreadsrv serves; elsewhere give it a board"
            )
        self._board = board
        self._sources = sources or Sources()
        self._lock = threading.Lock()  # guards the two below: scrapes may be concurrent
        self._processes = ProcessReader(self._sources.proc_root, self._sources.monotonic)
        self._floors: dict[tuple[str, int], float] = {}

    def describe(self) -> Iterable[Family]:
        """Name the metrics without measuring them, for the registry's duplicate check."""
        return [empty_family(metric) for metric in CATALOGUE]

    def collect(self) -> Iterator[Family]:
        """Measure everything, now."""
        families, _ = self.measure()
        yield from families

    def measure(self) -> tuple[Families, FleetReading]:
        """Measure everything, now; also return the reading of the board that it rests on."""
        with self._lock:
            if self._follows:
                self._follow()
            return self._collect()

    def _follow(self) -> None:
        """Take up what a reload has changed: the listeners, and what they are called."""
        published = current()
        if published is not None and published.sources is not self._sources:
            self._sources = published.sources
            self._processes = ProcessReader(self._sources.proc_root, self._sources.monotonic)

    def count_error(self, source: str, count: int = 1) -> None:
        """Count what could not be exported, for the next scrape to show."""
        # On the board, so that the count outlives the exporter. Two processes that export
        # and fail at the same instant may count one error; neither is led astray by that.
        if count:
            self._board.exporter_cells[labels.SCRAPE_SOURCES.index(source)] += count

    def _collect(self) -> tuple[Families, FleetReading]:
        families = Families()
        started = self._sources.monotonic()
        fleet = read_fleet(self._board, started, exemplars=True)
        _master(families, fleet, self._sources)
        _requests(families, fleet, self._sources.wall() - started)
        pids = {slot.pid for slot in fleet.slots if slot.live and slot.pid}
        processes: dict[int, ProcessReading] = (
            self._guarded("proc", partial(self._processes.read, pids)) or {}
        )
        for slot in fleet.slots:
            self._slot(families, slot, processes.get(slot.pid, ProcessReading()))
        self._listeners(families, fleet)
        root, proc_root = self._sources.cgroup_root, self._sources.proc_root
        _container(families, self._guarded("cgroup", partial(read_cgroup, root, proc_root)))
        if self._sources.app_directory is not None:
            files, size = measure(self._sources.app_directory)
            families.add("app_metric_files", files)
            families.add("app_metric_bytes", size)
        errors = list(self._board.exporter_cells)
        families.add_each("scrape_errors_total", "source", labels.SCRAPE_SOURCES, errors)
        families.add("scrape_duration_seconds", self._sources.monotonic() - started)
        return families, fleet

    def _guarded(self, source: str, read: Callable[[], _T]) -> _T | None:
        """Read a source that is not ours; what it garbles is counted and absent."""
        try:
            return read()
        except (OSError, ValueError, LookupError, struct.error):
            self.count_error(source)
            return None

    def _floored(self, name: str, slot: int, value: float) -> float:
        """Return ``value``, or the last one exported if that was larger.

        A running interval is read up to this instant; the thread that ends it took its own
        a moment earlier and may store it a moment later. The total is exact again with the
        next interval, but a counter must not step back in between.
        """
        floor = self._floors[name, slot] = max(value, self._floors.get((name, slot), 0.0))
        return floor

    def _slot(self, families: Families, slot: SlotReading, process: ProcessReading) -> None:
        """Add one worker slot's samples."""
        number = slot.slot
        worker = {"worker": str(number)}
        add = families.add
        add("worker_up", 1.0 if slot.live else 0.0, worker)
        if slot.live:
            add("worker_start_time_seconds", slot.start_time, worker)
            add("worker_generation", slot.generation, worker)
            add("worker_heartbeat_age_seconds", slot.heartbeat_age_s, worker)
            add("threads", slot.threads, worker)
            add("threads_busy", slot.threads_busy, worker)
            add("oldest_request_age_seconds", slot.oldest_request_s, worker)
            families.add_each(
                "connections", "state", labels.CONNECTION_STATES, slot.connections, worker
            )
            add("worker_resident_memory_bytes", process.resident_bytes, worker)
            add("worker_proportional_memory_bytes", process.proportional_bytes, worker)
            add("worker_open_fds", process.open_fds, worker)
            add("worker_max_fds", process.max_fds, worker)
        busy_s = self._floored("busy", number, slot.busy_s)
        add("thread_busy_seconds_total", busy_s, worker)
        saturated_s = self._floored("saturated", number, slot.saturated_s)
        add("saturated_seconds_total", saturated_s, worker)
        add("connections_accepted_total", slot.accepted, worker)
        add("worker_requests_total", slot.requests, worker)
        add("request_cpu_seconds_total", slot.request_cpu_s, worker)
        add("interpreter_wait_seconds_total", slot.interpreter_wait_s, worker)
        add("worker_runqueue_wait_seconds_total", slot.runqueue_wait_s, worker)
        for index, live_s in enumerate((process.user_s, process.system_s)):
            mode = labels.CPU_MODES[index]
            # /proc is up to date even when the worker hangs; the board has what ended.
            cpu_s = max(slot.cpu_s[index], slot.reaped_cpu_s[index] + (live_s or 0.0))
            cpu_s = self._floored(mode, number, cpu_s)
            add("worker_cpu_seconds_total", cpu_s, {**worker, "mode": mode})
        add("worker_gc_pause_seconds_total", slot.gc_pause_s, worker)
        families.add_each(
            "worker_gc_collections_total",
            "generation",
            labels.GC_GENERATIONS,
            slot.gc_collections,
            worker,
        )

    def _listeners(self, families: Families, fleet: FleetReading) -> None:
        """Add what the kernel knows about each listener."""
        asked_for = dict(zip(self._board.listeners, fleet.backlog_limits, strict=True))
        for source in self._sources.listeners:
            listener = {"listener": source.label}
            queue = self._guarded("kernel", partial(kernel.backlog, source.fd))
            if queue is not None:
                families.add("listener_backlog", queue.queued, listener)
                families.add("listener_backlog_limit", queue.limit, listener)
            elif asked_for.get(source.label):
                families.add("listener_backlog_limit", asked_for[source.label], listener)
            dropped = self._guarded("kernel", partial(kernel.drops, source.fd))
            families.add("listener_drops_total", dropped, listener)


def _master(families: Families, fleet: FleetReading, sources: Sources) -> None:
    """Add what the master knows."""
    cells = fleet.master
    if sources.build:
        families.add("build_info", 1.0, sources.build)
    families.add("start_time_seconds", cells[M_START_TIME])
    if cells[M_CONFIG]:  # no worker configured: no settings were published
        for offset, name in enumerate(CONFIG_FIELDS):
            families.add(f"config_{name}", cells[M_CONFIG + offset])
    states = [slot.state for slot in fleet.slots]
    live = labels.LIVE_STATES
    families.add_each("workers", "state", live, [states.count(state) for state in live])
    families.add("workers_target", cells[M_TARGET_WORKERS])
    for name, label, values, start in (
        ("worker_spawns_total", "reason", labels.SPAWN_REASONS, M_SPAWNS),
        ("worker_exits_total", "reason", labels.EXIT_REASONS, M_EXITS),
        ("reloads_total", "result", labels.RELOAD_RESULTS, M_RELOADS),
        ("scale_events_total", "direction", labels.SCALE_DIRECTIONS, M_SCALES),
        ("scale_refusals_total", "reason", labels.SCALE_REFUSALS, M_SCALE_REFUSALS),
    ):
        families.add_each(name, label, values, cells[start : start + len(values)])
    families.add_histogram("worker_boot_duration_seconds", cells[M_BOOT:])
    families.add("last_reload_success_timestamp_seconds", cells[M_RELOAD_SUCCESS] or None)
    families.add("thread_utilization_ratio", utilization(fleet.slots))


def _requests(families: Families, fleet: FleetReading, wall_offset_s: float) -> None:
    """Add what was counted per request and per connection."""
    width = 1 + len(labels.DURATION_BOUNDS) + 1
    by_class = {name: [0.0] * width for name in labels.CODE_CLASSES}
    for key, cells in sorted(fleet.durations.items()):
        method, code = method_and_code(key)
        families.add("requests_total", sum(cells[1:]), {"method": method, "code": code})
        name = code_class(key)
        by_class[name] = [a + b for a, b in zip(by_class[name], cells, strict=True)]
    exemplars = _exemplars(fleet, wall_offset_s)
    for name, cells in by_class.items():
        families.add_histogram(
            "request_duration_seconds", cells, {"code_class": name}, exemplars.get(name)
        )
    families.add_histogram("application_seconds", fleet.application)
    for source, cells in fleet.queue.items():
        families.add_histogram("request_queue_seconds", cells, {"source": source})
    families.add_histogram("proxy_queue_seconds", fleet.proxy_queue)
    families.add_each("connections_closed_total", "reason", labels.CLOSE_REASONS, fleet.closed)
    families.add_each("request_errors_total", "reason", labels.ERROR_REASONS, fleet.errors)
    families.add_each("request_timeouts_total", "action", labels.TIMEOUT_ACTIONS, fleet.timeouts)
    families.add("request_body_bytes_total", fleet.body_in)
    families.add("response_body_bytes_total", fleet.body_out)


def _exemplars(fleet: FleetReading, wall_offset_s: float) -> dict[str, dict[int, Exemplar]]:
    """Return code class -> bucket -> the latest trace any thread saw there."""
    latest: dict[str, dict[int, Exemplar]] = {}
    for found in sorted(fleet.exemplars, key=lambda exemplar: exemplar.at):
        # Trace ids come from clients: what is not one does not get on the page.
        if not set(found.trace_id) <= set("0123456789abcdef"):
            continue
        latest.setdefault(labels.CODE_CLASSES[found.code_class], {})[found.bucket] = Exemplar(
            {"trace_id": found.trace_id}, found.duration_s, found.at + wall_offset_s
        )
    return latest


def _container(families: Families, reading: CgroupReading | None) -> None:
    """Add the container's limits."""
    if reading is None:
        return
    families.add("cgroup_cpu_limit_cores", reading.cpu_limit_cores)
    families.add("cgroup_cpu_throttled_seconds_total", reading.throttled_s)
    families.add("cgroup_cpu_throttled_periods_total", reading.throttled_periods)
    families.add("cgroup_memory_usage_bytes", reading.memory_usage_bytes)
    families.add("cgroup_memory_limit_bytes", reading.memory_limit_bytes)
    families.add("cgroup_oom_kills_total", reading.oom_kills)
