"""The reading side of the scoreboard: raw cells become what they mean at one instant.

Used by the exporter's collector and by whoever steers by the same numbers (the master's
scaling policy, the status page), hence no prometheus_client here. Reading takes no lock and
never waits for a writer: a row that cannot be had in one piece after a few tries is taken as
it is, which is safe because each cell by itself is true and only grows (see ``layout``).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from gthreadsrv_metrics import labels
from gthreadsrv_metrics.layout import (
    BLOCK_CELLS,
    CELL_BYTES,
    D_BUSY_AT_LEASE,
    D_CPU,
    D_GENERATION,
    D_LEASED_AT,
    D_PID,
    D_START_TIME,
    D_STATE,
    D_THREADS,
    D_THREADS_EVER,
    DURATION_CELLS,
    EXEMPLAR_CELLS,
    QUEUE_CELLS,
    S_CONNECTIONS,
    S_CPU,
    S_GC_COLLECTIONS,
    S_GC_PAUSE,
    S_HEARTBEAT,
    S_INTERPRETER_WAIT,
    S_KERNEL_TIMES,
    S_REQUEST_CPU,
    S_RUNQUEUE_WAIT,
    S_SAMPLES,
    S_SATURATED,
    SAMPLE_COUNT,
    T_ACCEPTED,
    T_APPLICATION,
    T_BLOCKS,
    T_BODY_IN,
    T_BODY_OUT,
    T_BUSY,
    T_CLOSED,
    T_ERRORS,
    T_EXEMPLAR,
    T_EXEMPLARS,
    T_QUEUE_KERNEL,
    T_QUEUE_PROXY,
    T_QUEUE_USER,
    T_REQUESTS,
    T_SEQUENCE,
    T_SINCE,
    T_TIMEOUTS,
    TRACE_BYTES,
    X_AT,
    X_CLASS,
    X_DURATION,
    X_TRACE,
)
from gthreadsrv_metrics.slot_row import integral
from gthreadsrv_metrics.thread_row import code_class_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gthreadsrv_metrics.layout import Cells
    from gthreadsrv_metrics.scoreboard import Scoreboard

__all__ = ["IDLE", "Exemplar", "FleetReading", "SlotReading", "read_fleet", "utilization"]

# The window of thread_utilization_ratio: a Prometheus scrape interval's usual length.
WINDOW_S: Final = 15.0
# In place of an age, of a thread that has no request.
IDLE: Final = -1.0
# finish() holds a row odd for half a microsecond. A copy that fails four times met a writer
# that is stopped, and would fail for ever.
_TRIES: Final = 4


class Exemplar(NamedTuple):
    """A traced request that fell into one bucket of the duration histogram."""

    code_class: int
    bucket: int
    duration_s: float
    at: float  # CLOCK_MONOTONIC seconds
    trace_id: str


class SlotReading(NamedTuple):
    """One slot that was ever leased. Gauges are those of a free slot unless it is ``live``."""

    slot: int
    state: str
    pid: int
    generation: int
    start_time: float
    heartbeat_age_s: float
    threads: int
    ages: tuple[float, ...]  # of each thread's running request in seconds; IDLE where none runs
    connections: tuple[int, ...]
    window_busy_s: float
    window_s: float
    busy_s: float
    saturated_s: float
    requests: float
    accepted: float
    interpreter_wait_s: float
    gc_pause_s: float
    gc_collections: tuple[float, ...]
    cpu_s: tuple[float, float]  # at least, counting reaped processes and last heartbeats
    reaped_cpu_s: tuple[float, float]
    request_cpu_s: float | None
    runqueue_wait_s: float | None

    @property
    def live(self) -> bool:
        """Whether a process has the slot."""
        return self.state != "free"

    @property
    def threads_busy(self) -> int:
        """How many threads serve a request."""
        return sum(age >= 0.0 for age in self.ages)

    @property
    def oldest_request_s(self) -> float:
        """Age of the longest running request; 0 when none runs."""
        return max(0.0, *self.ages) if self.ages else 0.0


@dataclass(slots=True)
class FleetReading:
    """The whole board at one instant, slots and threads added up where labels do so."""

    now: float
    master: Sequence[float]
    backlog_limits: Sequence[float]
    slots: list[SlotReading] = field(default_factory=list)
    # Request key (see thread_row.request_key) -> duration histogram: sum, then buckets.
    durations: dict[int, list[float]] = field(default_factory=dict)
    application: list[float] = field(default_factory=list)
    queue: dict[str, list[float]] = field(default_factory=dict)
    proxy_queue: list[float] = field(default_factory=list)
    closed: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    body_in: float = 0.0
    body_out: float = 0.0
    exemplars: list[Exemplar] = field(default_factory=list)


def utilization(slots: Sequence[SlotReading]) -> float | None:
    """Return the share of the ready workers' thread seconds that was busy of late."""
    ready = [slot for slot in slots if slot.state == "ready"]
    capacity_s = sum(slot.threads * slot.window_s for slot in ready)
    if capacity_s <= 0.0:
        return None
    return min(max(sum(slot.window_busy_s for slot in ready) / capacity_s, 0.0), 1.0)


def read_fleet(board: Scoreboard, now: float, *, exemplars: bool = False) -> FleetReading:
    """Read everything. ``now`` is CLOCK_MONOTONIC, taken just before the call."""
    fleet = FleetReading(now, _decode(board.master_cells), _decode(board.listener_cells))
    # Adding up column by column, a slot at a time while its rows are in the CPU's cache, is
    # what keeps a thousand threads within milliseconds.
    columns: list[list[float]] = [[0.0] * (T_REQUESTS - T_BODY_IN)]
    blocks: dict[int, list[list[float]]] = {}
    for slot in range(board.slots):
        entry = _decode(board.directory(slot))
        used = int(entry[D_THREADS_EVER])
        if not used:
            continue
        threads = [board.thread_cells(slot, index) for index in range(used)]
        rows = [_copy(cells) for cells in threads]
        columns.append(_add(row[T_BODY_IN:T_REQUESTS] for row in rows))
        requests = 0.0
        for key, histogram in _add_blocks(rows).items():
            requests += sum(histogram[1:])
            blocks.setdefault(key, []).append(histogram)
        if exemplars:
            for cells in threads:
                fleet.exemplars.extend(_exemplars(cells))
        fleet.slots.append(
            _slot(slot, entry, _decode(board.slot_cells(slot)), rows, requests=requests, now=now)
        )
    fleet.durations = {key: _add(histograms) for key, histograms in blocks.items()}
    # Pad to row positions, so that layout's indices hold.
    total = [0.0] * T_BODY_IN + _add(columns)
    fleet.body_in = total[T_BODY_IN]
    fleet.body_out = total[T_BODY_OUT]
    fleet.closed = total[T_CLOSED : T_CLOSED + len(labels.CLOSE_REASONS)]
    fleet.errors = total[T_ERRORS : T_ERRORS + len(labels.ERROR_REASONS)]
    fleet.timeouts = total[T_TIMEOUTS : T_TIMEOUTS + len(labels.TIMEOUT_ACTIONS)]
    fleet.application = total[T_APPLICATION : T_APPLICATION + DURATION_CELLS]
    fleet.queue = {
        source: total[start : start + QUEUE_CELLS]
        for source, start in zip(labels.QUEUE_SOURCES, (T_QUEUE_KERNEL, T_QUEUE_USER), strict=True)
    }
    fleet.proxy_queue = total[T_QUEUE_PROXY : T_QUEUE_PROXY + QUEUE_CELLS]
    return fleet


def _decode(cells: Cells) -> array[float]:
    """Copy cells. An array makes floats only of what is looked at."""
    return array("d", cells.tobytes())


def _copy(cells: Cells) -> array[float]:
    """Copy a thread row's used part, in one consistent piece where that can be had."""
    for _ in range(_TRIES):
        sequence = cells[T_SEQUENCE]
        blocks = cells[T_BLOCKS]
        # The window for tearing is one memcpy.
        copy = cells[: T_REQUESTS + int(blocks) * BLOCK_CELLS].tobytes()
        if sequence % 2.0 == 0.0 and cells[T_SEQUENCE] == sequence and cells[T_BLOCKS] == blocks:
            break
    return array("d", copy)


def _add(rows: Iterable[Sequence[float]]) -> list[float]:
    """Add rows of equal length column by column."""
    return list(map(sum, zip(*rows, strict=True)))


def _add_blocks(rows: Sequence[array[float]]) -> dict[int, list[float]]:
    """Return the rows' request blocks by their keys, added up."""
    blocks: dict[int, list[array[float]]] = {}
    for row in rows:
        for start in range(T_REQUESTS, len(row), BLOCK_CELLS):
            key = int(row[start])
            if key:  # an overflow block of a class without overflow has none
                blocks.setdefault(key, []).append(row[start + 1 : start + BLOCK_CELLS])
    return {key: _add(histograms) for key, histograms in blocks.items()}


def _exemplars(cells: Cells) -> list[Exemplar]:
    """Return the traces a thread row keeps."""
    found: list[Exemplar] = []
    if not cells[T_EXEMPLARS]:
        return found
    for bucket in range(DURATION_CELLS - 1):
        start = T_EXEMPLAR + bucket * EXEMPLAR_CELLS
        part = cells[start : start + EXEMPLAR_CELLS].tobytes()
        head = memoryview(part).cast("d")
        trace = part[X_TRACE * CELL_BYTES :][:TRACE_BYTES]
        if head[X_AT]:
            found.append(
                Exemplar(
                    int(head[X_CLASS]),
                    bucket,
                    head[X_DURATION],
                    head[X_AT],
                    trace.decode("ascii", "replace"),
                )
            )
    return found


def _slot(
    slot: int,
    entry: array[float],
    cells: array[float],
    rows: Sequence[array[float]],
    *,
    requests: float,
    now: float,
) -> SlotReading:
    """Give a slot's cells their meaning."""
    live = entry[D_STATE] != 0.0
    threads = int(entry[D_THREADS]) if live else 0
    # integral(), without a call per thread.
    busy_s = sum([row[T_BUSY] + now if row[T_BUSY] < 0.0 else row[T_BUSY] for row in rows])
    since, busy_then = _window_start(entry, cells, now)
    reaped = (entry[D_CPU], entry[D_CPU + 1])
    kernel_times = bool(cells[S_KERNEL_TIMES])
    return SlotReading(
        slot=slot,
        state=labels.STATES[int(entry[D_STATE])],
        pid=int(entry[D_PID]),
        generation=int(entry[D_GENERATION]),
        start_time=entry[D_START_TIME],
        heartbeat_age_s=max(now - max(cells[S_HEARTBEAT], entry[D_LEASED_AT]), 0.0),
        threads=threads,
        ages=tuple(
            max(now - row[T_SINCE], 0.0) if row[T_BUSY] < 0.0 else IDLE for row in rows[:threads]
        ),
        connections=tuple(int(n) for n in cells[S_CONNECTIONS:S_RUNQUEUE_WAIT]),
        window_busy_s=busy_s - busy_then,
        window_s=now - since,
        busy_s=busy_s,
        saturated_s=integral(cells[S_SATURATED], now),
        requests=requests,
        accepted=sum(row[T_ACCEPTED] for row in rows),
        interpreter_wait_s=cells[S_INTERPRETER_WAIT],
        gc_pause_s=cells[S_GC_PAUSE],
        gc_collections=tuple(cells[S_GC_COLLECTIONS:S_CONNECTIONS]),
        cpu_s=(max(reaped[0], cells[S_CPU]), max(reaped[1], cells[S_CPU + 1])),
        reaped_cpu_s=reaped,
        request_cpu_s=cells[S_REQUEST_CPU] if kernel_times else None,
        runqueue_wait_s=cells[S_RUNQUEUE_WAIT] if kernel_times else None,
    )


def _window_start(entry: array[float], cells: array[float], now: float) -> tuple[float, float]:
    """Return (instant, busy integral) at which the utilisation window begins.

    That is the last heartbeat sample older than the window; a younger worker's first one;
    its lease if it has not beaten yet.
    """
    samples = sorted(
        (cells[at], cells[at + 1])
        for at in range(S_SAMPLES, S_SAMPLES + 2 * SAMPLE_COUNT, 2)
        if cells[at] > 0.0
    )
    if not samples:
        return entry[D_LEASED_AT], entry[D_BUSY_AT_LEASE]
    return max((s for s in samples if s[0] <= now - WINDOW_S), default=samples[0])


def code_class(key: int) -> str:
    """Return the code_class label of a request key."""
    return labels.CODE_CLASSES[code_class_of(key)]


def method_and_code(key: int) -> tuple[str, str]:
    """Return the method and code labels of a request key; overflow blocks have a class."""
    method, code = divmod(key - 1, 1000)
    return labels.METHODS[method], str(code) if code >= 100 else labels.CODE_CLASSES[code - 1]
